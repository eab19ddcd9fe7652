"""A stand-in for a vLLM server, run as a process: /health, /v1/chat/completions, and ways to die.

Its own id and that of a child that it starts, as vLLM has engine processes, go to --pids, a line a
start. Standard library only.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

options = argparse.ArgumentParser()
options.add_argument("--pids", required=True)
options.add_argument("--fail", action="store_true", help="end with an error when started")
options.add_argument("--loading", type=float, default=0.0, help="seconds until it is ready")
options.add_argument("--crash-at", type=int, help="killed by this request, counted in each start")
options.add_argument("--crashes", type=int, default=1, help="in how many starts")
options.add_argument("--stubborn", action="store_true", help="ignores SIGTERM")
options.add_argument("--model")
options.add_argument("--served-model-name")
options.add_argument("--host")
options.add_argument("--port", type=int)
given, further = options.parse_known_args()

print("loading weights", flush=True)
if given.fail:
    sys.exit("ValueError: the model is too large for this GPU")
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
with open(given.pids, "a+") as file:
    file.write(f"{os.getpid()} {child.pid}\n")
    file.seek(0)
    starts = len(file.readlines())
if given.stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
numbers = count(1)
begun = time.monotonic()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        ready = self.path == "/health" and time.monotonic() - begun >= given.loading
        self.answer(200 if ready else 503, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if next(numbers) == given.crash_at and starts <= given.crashes:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        said = body["messages"][0]["content"]
        about = {"model": body["model"], "said": said, "further": further, "start": starts}
        message = {"role": "assistant", "content": json.dumps(about)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.answer(200, json.dumps({"choices": [choice]}).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


ThreadingHTTPServer((given.host, given.port), Handler).serve_forever()
