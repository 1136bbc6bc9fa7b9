"""A studio that waits half a second for a body and a second for a head, and prints its link."""

import sys
from pathlib import Path

from fromnoise.studio import address, server
from fromnoise.studio.app import create_app
from fromnoise.studio.guard import Key, Limits
from fromnoise.studio.library import Library
from fromnoise.studio.trainings import Trainings

server._PATIENCE = 1.0
library = Library([Path(path) for path in sys.argv[3:]])
trainings = Trainings(library, Path("runs"))
listener = address.listen("127.0.0.1", 0)
port = listener.getsockname()[1]
key, hosts = Key(port), address.hosts("127.0.0.1", port)
app = create_app(library, trainings, hosts=hosts, key=key, limits=Limits(body_seconds=0.5))
server.serve(
    app, listener, trainings, lambda: print(f"http://{hosts[0]}/?token={key.token}", file=sys.stderr, flush=True)
)
