"""How an episode is played: who acts in a control step, which action of which chunk is next, and what is written down."""
