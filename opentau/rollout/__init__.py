"""Policies put to work: the server that answers stations, the fleet that runs them, the recorder and the scores."""
