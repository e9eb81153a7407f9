"""The ZeroMQ link between policies and stations: messages, sockets, chunk playback, supervision, the station program."""
