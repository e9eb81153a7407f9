"""What travels: messages, their bytes and sockets, signs of life, clocks, pictures, the spool, telemetry."""
