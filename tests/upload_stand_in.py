"""A local stand-in for the Hub's upload API, as its own client (1.33) speaks it without Xet."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Uploads:
    """Dataset repositories that can be made and written; `files` is (repository, path) -> bytes."""

    def __init__(self):
        self.private = {}  # repository -> bool
        self.files = {}
        self.refuse = None  # status for every request
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _handler(hub):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(None)

            def do_POST(self):
                self.answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def answer(self, body):
                path = self.path.partition("?")[0].strip("/")
                if hub.refuse:
                    return self.reply(hub.refuse, {"error": "no"})
                if path == "api/repos/create":
                    made = json.loads(body)
                    name = f"{made['organization']}/{made['name']}" if made.get("organization") else made["name"]
                    if made["type"] != "dataset":
                        return self.reply(400, {"error": "not a dataset"})
                    status = 409 if name in hub.private else 200
                    hub.private.setdefault(name, made.get("private") or made.get("visibility") == "private")
                    return self.reply(status, {"url": f"{hub.url}/datasets/{name}", "name": name})
                if path == "api/validate-yaml":
                    return self.reply(200, {"errors": [], "warnings": []})
                for name, private in hub.private.items():
                    if path == f"api/datasets/{name}":
                        return self.reply(200, {"id": name, "private": private, "siblings": [], "sha": "0" * 40})
                    if path == f"api/datasets/{name}/preupload/main":
                        told = [
                            {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                            for one in json.loads(body)["files"]
                        ]
                        return self.reply(200, {"files": told})
                    if path == f"api/datasets/{name}/commit/main":
                        for line in map(json.loads, body.splitlines()):
                            if line["key"] == "file":
                                content = base64.b64decode(line["value"]["content"])
                                hub.files[name, line["value"]["path"]] = content
                        done = {
                            "commitUrl": f"{hub.url}/datasets/{name}/commit/1",
                            "commitOid": "1" * 40,
                            "success": True,
                        }
                        return self.reply(200, done)
                return self.reply(404, {"error": path})

            def reply(self, status, content):
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        return Handler

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()
