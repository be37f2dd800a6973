"""The daemon that services register with, and what they use to reach it."""
