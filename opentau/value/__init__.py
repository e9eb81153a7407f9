"""The value function: returns and advantages of episodes, the distributional critic, its checks, and advantage labels."""
