"""A local stand-in for the Hub: the few answers its client needs for dataset repositories, and faults on order."""

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "1575fac" + "0" * 33


class Hub:
    """One repository at one commit; `files` is path -> bytes, of which those in `plain` are not in LFS."""

    def __init__(self, repository, files, plain=()):
        self.repository, self.files, self.plain = repository, files, set(plain)
        self.commit = COMMIT
        self.refuse = None  # (status, X-Error-Code) for every request
        self.drop = {}  # path -> how often to hang up in the middle
        self.wrong = {}  # path -> bytes sent instead
        self.gate = None  # (path, bytes, event): send so many bytes of it, then wait for the event
        self.asked = []  # (path, Range header)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def info(self):
        siblings = []
        for path, content in self.files.items():
            one = {"rfilename": path, "size": len(content)}
            one["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if path not in self.plain:
                digest = hashlib.sha256(content).hexdigest()
                one["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(one)
        return {"id": self.repository, "sha": self.commit, "private": False, "siblings": siblings}

    def _handler(hub):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if hub.refuse:
                    return self.reply(hub.refuse[0], b"{}", {"X-Error-Code": hub.refuse[1]})
                path = self.path.partition("?")[0].strip("/")
                for revision in (hub.commit, "main"):
                    if path == f"api/datasets/{hub.repository}/revision/{revision}":
                        return self.reply(200, json.dumps(hub.info()).encode(), {})
                    name = path.removeprefix(f"datasets/{hub.repository}/resolve/{revision}/")
                    if name in hub.files:
                        return self.send_file(name)
                code = "RevisionNotFound" if hub.repository in path else "RepoNotFound"
                return self.reply(404, b"{}", {"X-Error-Code": code})

            def send_file(self, name):
                content = hub.wrong.get(name, hub.files[name])
                asked = self.headers.get("Range")
                hub.asked.append((name, asked))
                begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
                more = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if asked else {}
                if hub.drop.get(name):
                    hub.drop[name] -= 1
                    return self.reply(206 if asked else 200, content[begin:], more, stop=(len(content) - begin) // 2)
                if hub.gate and hub.gate[0] == name:
                    return self.reply(206 if asked else 200, content[begin:], more, stop=hub.gate[1], wait=hub.gate[2])
                return self.reply(206 if asked else 200, content[begin:], more)

            def reply(self, status, content, headers, stop=None, wait=None):
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(content[:stop])
                    self.wfile.flush()
                    if wait:
                        wait.wait(60)
                self.close_connection = True

            def log_message(self, *args):
                pass

        return Handler

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc):
        if self.gate:
            self.gate[2].set()
        self.server.shutdown()
        self.server.server_close()
