"""The board with a real mosquitto: what is told, what Home Assistant makes of it, commands, passwords, TLS, a broker that is away.

    mqtt_check.py --edgeblip PROGRAM
"""

import argparse
import getpass
import http.server
import io
import json
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

import jinja2
import jsonschema
import paho.mqtt.client
from PIL import Image

from board import PICTURES, ROOT, Board, wait_for

SCHEMA = json.loads((ROOT / "tests" / "reference" / "home_assistant.json").read_text())
STATES = 255  # Longest state. Source: Home Assistant's const.py, MAX_LENGTH_STATE_STATE.


class Camera(http.server.BaseHTTPRequestHandler):
    """A camera in the network: the same picture, five times a second."""

    jpeg = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        try:
            while True:
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(self.jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + self.jpeg + b"\r\n")
                time.sleep(0.2)
        except OSError:
            pass

    def log_message(self, *_):
        pass


def camera():
    picture = io.BytesIO()
    Image.open(PICTURES / "10.png").convert("RGB").save(picture, "JPEG", quality=90)
    handler = type("Handler", (Camera,), {"jpeg": picture.getvalue()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/stream.mjpeg"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """mosquitto with a password, on a plain and an encrypted port."""

    def __init__(self, folder):
        self.folder = folder
        self.plain, self.secret = free_port(), free_port()
        self.authority = folder / "authority.pem"
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        by = ["-CA", self.authority, "-CAkey", folder / "authority.key", "-addext", "basicConstraints=critical,CA:FALSE"]
        for more in [
            ["-subj", "/CN=owl's authority", "-keyout", folder / "authority.key", "-out", self.authority],
            ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", *by]
            + ["-keyout", folder / "key.pem", "-out", folder / "certificate.pem"],
        ]:
            subprocess.run([*new, *more], check=True, capture_output=True)
        subprocess.run(["mosquitto_passwd", "-b", "-c", folder / "passwords", "owl", "p@ss word"], check=True)
        for path in folder.iterdir():
            path.chmod(0o644)
        folder.chmod(0o755)
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"user {getpass.getuser()}\nallow_anonymous false\npassword_file {folder}/passwords\nlistener {self.plain} 127.0.0.1\n"
            f"listener {self.secret} 127.0.0.1\ncertfile {folder}/certificate.pem\nkeyfile {folder}/key.pem\n"
        )
        self.process = None

    def start(self):
        self.process = subprocess.Popen(["mosquitto", "-c", self.config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("mosquitto", lambda: self.answers())

    def answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.plain)) == 0

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=10)


class Listener:
    """Another client of the broker: the last message of every topic."""

    def __init__(self, broker):
        self.messages, self.retained = {}, set()
        self.client = paho.mqtt.client.Client(paho.mqtt.client.CallbackAPIVersion.VERSION2)
        self.client.username_pw_set("owl", "p@ss word")
        self.client.on_connect = lambda client, *_: client.subscribe("#")
        self.client.on_message = self.heard
        self.client.connect("127.0.0.1", broker.plain)
        self.client.loop_start()

    def heard(self, _client, _data, message):
        self.messages[message.topic] = message.payload
        if message.retain:
            self.retained.add(message.topic)

    def json(self, topic):
        return json.loads(self.messages[topic]) if topic in self.messages else None

    def send(self, topic, payload, retain=False):
        self.client.publish(topic, payload, retain=retain).wait_for_publish()

    def stop(self):
        self.client.loop_stop()
        self.client.disconnect()


def home_assistant(listener):
    """Every discovery message is what the documentation says, and its templates make states of what is told."""
    configs = {topic: json.loads(payload) for topic, payload in listener.messages.items() if topic.startswith("homeassistant/")}
    assert len(configs) == 7, sorted(configs)
    environment = jinja2.Environment()
    states = {}
    for topic, config in configs.items():
        # The pattern is the documentation's: letters, digits, underscores and dashes.
        parts = re.fullmatch(r"homeassistant/([a-z_]+)/([a-zA-Z0-9_-]+)/([a-zA-Z0-9_-]+)/config", topic)
        assert parts, topic
        component = parts.group(1)
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": SCHEMA["$defs"], **SCHEMA[component]}
        jsonschema.Draft202012Validator(schema).validate(config)
        assert config["availability_topic"] == "edgeblip/owl/availability"
        for key in ["state_topic", "image_topic", "json_attributes_topic"]:
            assert key not in config or config[key] in listener.messages, f"{topic}: nothing is told on {config.get(key)}"
        if "value_template" in config:
            told = json.loads(listener.messages[config["state_topic"]])
            state = environment.from_string(config["value_template"]).render(value_json=told)
            assert len(state) <= STATES
            states[parts.group(3)] = state
    ids = [config["unique_id"] for config in configs.values()]
    assert len(set(ids)) == len(ids)
    assert len({json.dumps(config["device"]) for config in configs.values()}) == 1, "all are of one device"
    assert states["caption"] == "an owl on sand", states
    assert 0 < float(states["match"]) < 100 and states["problem"] == "OFF" and int(states["kept"]) >= 0, states
    long = json.loads(listener.messages["edgeblip/owl/look"]) | {"caption": "x" * 256, "match": None}
    for topic, config in configs.items():
        if "value_template" in config and config["state_topic"].endswith("/look"):
            state = environment.from_string(config["value_template"]).render(value_json=long)
            assert len(state) <= STATES and (state == "None" or not topic.endswith("/match/config")), (topic, state)
    wrong = json.loads(json.dumps(configs["homeassistant/sensor/edgeblip_owl/caption/config"])) | {"state_tpoic": "x"}
    schema = {"$defs": SCHEMA["$defs"], **SCHEMA["sensor"]}
    assert not jsonschema.Draft202012Validator(schema).is_valid(wrong), "the schema sees a key that there is not"
    print(f"Home Assistant: {len(configs)} components as documented; states {states}")


def commands(board, listener):
    """Messages take frames; those that were kept for whoever comes do not."""
    looks = lambda: listener.json("edgeblip/owl/look")
    before = looks()["number"]
    listener.send("edgeblip/owl/take", "PRESS")
    wait_for("a frame by a message", lambda: looks()["number"] > before)
    assert looks()["trigger"] == "command", looks()
    before = looks()["number"]
    time.sleep(1.1)
    listener.send("edgeblip/owl/note", "what I saw")
    wait_for("a frame with a text", lambda: looks()["number"] > before)
    assert {"human", "caption"} <= {text["origin"] for text in looks()["texts"]}, looks()
    assert any(text["text"] == "what I saw" and text["decision"] == "kept" for text in looks()["texts"]), looks()
    listener.send("edgeblip/owl/note", b"\x1b[31mred")
    listener.send("edgeblip/owl/note", b"\xff\xfe")
    listener.send("edgeblip/owl/note", b"x" * 300)
    board.until("a message's text cannot be stored", 3)
    wait_for("the picture", lambda: listener.messages.get("edgeblip/owl/picture", b"").startswith(b"\xff\xd8\xff"))
    print("commands: take, note; a note that cannot be stored takes none")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edgeblip", required=True, type=pathlib.Path)
    program = parser.parse_args().edgeblip.resolve()
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        (folder / "broker").mkdir()
        broker = Broker(folder / "broker")
        live = ["--camera", camera()]
        never = '[triggers]\nevery_s = "never"\n'
        url = f"mqtt://owl:p%40ss%20word@127.0.0.1:{broker.plain}"
        board = Board(program, folder / "board", never, f'[mqtt]\nbroker = "{url}"\nname = "owl"', page="none", arguments=live)
        with board:
            board.until("the broker is away")
            board.until("frames come")
            broker.start()
            board.until("the broker is there", seconds=90)
            print("a broker that comes late is found")
            listener = Listener(broker)
            # A command of now, though the broker also keeps it for whoever comes later.
            listener.send("edgeblip/owl/take", "old", retain=True)
            wait_for("the first frame", lambda: "edgeblip/owl/look" in listener.messages)
            time.sleep(1.1)
            commands(board, listener)
            wait_for("health", lambda: "edgeblip/owl/health" in listener.messages)
            home_assistant(listener)
            listener.stop()
            # Who comes later finds the last of everything.
            late = Listener(broker)
            wait_for("what was kept", lambda: len(late.retained) >= 11)
            assert late.messages["edgeblip/owl/availability"] == b"online"
            kept = late.json("edgeblip/owl/look")["number"]
            broker.stop()
            board.until("the broker is away", 2)
            broker.start()
            board.until("the broker is there", 2, seconds=90)
            time.sleep(2)
            again = Listener(broker)
            wait_for("what is told anew", lambda: "edgeblip/owl/look" in again.messages)
            assert again.json("edgeblip/owl/look")["number"] == kept, "a command that was kept took a frame"
            print("a broker that was away is told anew, and an old command takes nothing")
            assert again.messages["edgeblip/owl/availability"] == b"online"
            board.process.send_signal(signal.SIGKILL)
            wait_for("the last will", lambda: again.messages["edgeblip/owl/availability"] == b"offline")
            board.process.wait()
            print("a board that is killed is offline, by the broker's word")
        again.stop()
        late.stop()
        secret = f"mqtts://owl:p%40ss%20word@localhost:{broker.secret}"
        settings = f'[mqtt]\nbroker = "{secret}"\nname = "owl"\nauthority = "{broker.authority}"'
        with Board(program, folder / "secret", never, settings, page="none", arguments=live) as board:
            board.until("the broker is there")
            print("TLS: with the broker's own authority")
        with Board(program, folder / "unknown", never, f'[mqtt]\nbroker = "{secret}"', page="none", arguments=live) as board:
            line = board.until("the broker is away")[0]
            assert "ertificate" in line or "UnknownIssuer" in line, line
            print("TLS: an authority that nobody vouches for is refused")
        wrong = url.replace("p%40ss", "wrong")
        with Board(program, folder / "wrong", never, f'[mqtt]\nbroker = "{wrong}"', page="none", arguments=live) as board:
            line = board.until("the broker is away")[0]
            assert "refuses" in line and "wrong" not in line.replace("wrong/", ""), line
            print("a wrong password: told, without the password")
        broker.stop()


if __name__ == "__main__":
    main()
