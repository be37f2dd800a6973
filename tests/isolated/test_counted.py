"""The example that counts: its command, its page for Prometheus as curl gets it, and its end."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from running import EXAMPLES, Program
from tool_ground import readme_lines, run

from edgevent import Client, Message


def test_it_counts_and_tells(tmp_path: Path, need_tool: Callable[..., str]) -> None:
    curl = need_tool("curl", package="curl")
    ask, scrape = (line.split() for line in readme_lines("counters"))
    with Program(EXAMPLES / "counted.py", folder=tmp_path) as program:
        where = f"unix:{tmp_path}/counted.sock"
        with Client(where, connect_timeout=20.0, wait=True) as client:
            for number in range(3):
                client.request(Message("ADD", {"a": 1, "b": number}))
            answer = client.request(Message("COUNTERS"))
            assert (answer.command, answer["messages_in"]) == ("COUNTS", "4")
            assert json.loads(answer["handler_1"])["command"] == "ADD"
            asked = run(*ask, folder=tmp_path)
            assert (asked.returncode, asked.stderr) == (0, "")
            assert "/COUNTS bytes_in=" in asked.stdout
            done = subprocess.run(
                [curl, *scrape[1:], "--max-time", "30", "--noproxy", "*"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=40.0,
            )
            assert done.returncode == 0, done.stderr
            assert 'edgevent_handler_seconds_count{command="ADD"} 3\n' in done.stdout
            assert 'edgevent_server_peers{connection="sums"} 1\n' in done.stdout
        assert program.end(signal.SIGTERM) == 0
        assert program.printed.startswith("counted: 0 connections, 3 ended, in 5 ")
        assert "\nhandler of ADD: count 3, " in program.printed
