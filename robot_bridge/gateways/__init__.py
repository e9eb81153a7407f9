"""Other projects' links to policies, so that their robots and policies plug in; each is a translator beside our own link."""
