"""A script whose log goes to a server, and to the error output while that is away."""

import logging

from edgevent import TcpLogHandler

server = TcpLogHandler("tcp://127.0.0.1:4043", components=["normal", "backup"], fallback="console")
logging.basicConfig(level=logging.INFO, handlers=[server])
logger = logging.getLogger("backup")

logger.info("begins")
logger.warning("%s is nearly full", "/var", extra={"used": 97})
logger.info("ends")
