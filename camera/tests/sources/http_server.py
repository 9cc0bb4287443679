"""Serves JPEGs as cameras do, and as none should: http_server.py FOLDER WAY. Says its port, and serves until it is ended."""

import base64
import http.server
import itertools
import pathlib
import socketserver
import sys
import time

folder, way = pathlib.Path(sys.argv[1]), sys.argv[2]
frames = [path.read_bytes() for path in sorted(folder.glob("frame*.jpg"))]
turn = itertools.count()
password = "Basic " + base64.b64encode(b"user:pass word").decode()


class Camera(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def head(self, kind, status=200, **others):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in others.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def do_GET(self):
        self.close_connection = True
        try:
            getattr(self, "serve_" + way.replace("-", "_"))()
        except (BrokenPipeError, ConnectionResetError):
            pass

    def parts(self, before, after=b"\r\n", pause=0.02):
        for number in itertools.count():
            frame = frames[number % len(frames)]
            self.wfile.write(before(number, frame) + frame + after)
            time.sleep(pause)

    def serve_lengths(self):
        if self.headers["Authorization"] != password:
            return self.head("text/plain", 401, WWW_Authenticate='Basic realm="camera"', Content_Length=0)
        self.head("multipart/x-mixed-replace; boundary=--frame")
        self.parts(lambda _, frame: b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(frame))

    def serve_boundaries(self):
        self.head('multipart/x-mixed-replace;boundary = "frame"')
        self.parts(lambda *_: b"--frame\r\nContent-Type: image/jpeg\r\n\r\n")

    def serve_no_first_boundary(self):
        self.head("multipart/x-mixed-replace;boundary=frame")
        head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
        self.parts(lambda number, frame: (b"--frame\r\n" if number else b"") + head % len(frame))

    def serve_stream(self):
        self.head("application/octet-stream")
        self.parts(lambda *_: b"", b"")

    def serve_snapshot(self):
        frame = frames[next(turn) % len(frames)]
        self.head("image/jpeg", Content_Length=len(frame))
        self.wfile.write(frame)

    def serve_slow(self):
        self.head("multipart/x-mixed-replace; boundary=frame", Transfer_Encoding="chunked")
        for number in range(40):
            frame = frames[number % len(frames)]
            part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(frame), frame)
            for start in range(0, len(part), 1999):
                piece = part[start : start + 1999]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()

    def serve_headers(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in itertools.count():
            self.wfile.write(b"X-%d: %s\r\n" % (number, b"x" * 1000))

    def serve_garbage(self):
        self.head("multipart/x-mixed-replace; boundary=frame")
        while True:
            self.wfile.write(b"\xff\xd8\xff\xe0\x00\x10" + b"\xff\xda\x00\n" * 1000)

    def serve_silence(self):
        self.head("multipart/x-mixed-replace; boundary=frame")
        time.sleep(600)

    def serve_huge(self):
        self.head("multipart/x-mixed-replace; boundary=frame")
        self.wfile.write(b"--frame\r\nContent-Length: 999999999999\r\n\r\n\xff\xd8\xff\xda\x00\x02")
        while True:
            self.wfile.write(b"x" * 100_000)

    def serve_page(self):
        self.head("text/html", Content_Length=0)

    def serve_missing(self):
        self.head("text/html", 404, Content_Length=0)

    def serve_password(self):
        self.head("text/html", 401, WWW_Authenticate='Digest realm="camera"', Content_Length=0)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


with Server(("127.0.0.1", 0), Camera) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
