"""Counts the words of its input: ls -l | python words.py; or < file; or typed, until ctrl-D."""

from edgevent import LineConnection

words = 0
with LineConnection("fd:0") as lines:
    for line in lines:  # or lines.receive(timeout=5.0)
        words += len(line.split())
print(words)
