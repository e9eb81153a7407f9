"""What the screens say, as lines of text: pure functions of (summary, now, width) that panels, `--plain` and tests share."""
