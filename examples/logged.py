"""Logs as its options say, and opens its log file anew when LOG_ROTATE comes."""

import logging
import sys

from edgevent import Communicator, EdgeventError
from edgevent.logrotate import add_log_rotation_options, log_rotation_from_options
from edgevent.logs import add_logging_options, set_up_logging
from edgevent.options import OptionParser

logger = logging.getLogger("logged")

parser = OptionParser("logged", "Says once a minute that it is still there.")
add_logging_options(parser)
add_log_rotation_options(parser, default="127.0.0.1:4988")
options = parser.parse()

try:
    with set_up_logging(options, "logged") as logs, Communicator() as communicator:
        communicator.stop_on("SIGTERM", "SIGINT")
        communicator.add_connection(log_rotation_from_options(options, logs))
        communicator.every(60.0, lambda: logger.info("still there"))
        communicator.run()
except EdgeventError as error:
    sys.exit(f"logged: {error}")
