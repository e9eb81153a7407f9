"""Visual question data: pictures with questions whose answers a simulator knows."""
