#!/usr/bin/env python3
"""A thousand pairs over real servers: moto's S3, and Apache's WebDAV with a password.

    sync_servers.py TEST_PROGRAM

TEST_PROGRAM is the test binary of the package edgeblip-tests; its test `way_home::a_thousand_pairs_arrive_once` does the work and the
checks. Needs moto[server] (requirements.txt) and Debian's apache2-bin and apache2-utils.
"""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

TEST = "way_home::a_thousand_pairs_arrive_once"
MODULES = "/usr/lib/apache2/modules"
APACHE = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/pid
ErrorLog {folder}/errors
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authn_file_module {modules}/mod_authn_file.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule auth_basic_module {modules}/mod_auth_basic.so
LoadModule dav_module {modules}/mod_dav.so
LoadModule dav_fs_module {modules}/mod_dav_fs.so
User www-data
Group www-data
DocumentRoot {folder}/root
DavLockDB {folder}/locks
<Directory {folder}/root>
    Dav On
    DavDepthInfinity On
    AuthType Basic
    AuthName boards
    AuthUserFile {folder}/users
    Require valid-user
</Directory>
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(command, port, **more):
    """A server, from when it answers until nobody needs it."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit(f"{command[0]} does not answer")
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def over(name, url, user, secret):
    began = time.monotonic()
    environment = os.environ | {"EDGEBLIP_SYNC_URL": url, "EDGEBLIP_USER": user, "EDGEBLIP_SECRET": secret}
    command = [os.path.abspath(sys.argv[1]), "--exact", TEST]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[1])
    if done.returncode != 0 or "1 passed" not in done.stdout:
        sys.exit(f"{name}:\n{done.stdout}\n{done.stderr}")
    print(f"ok   {name}: a thousand pairs arrived once, {time.monotonic() - began:.0f} s", flush=True)


def s3():
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        import boto3

        client = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id="garden", aws_secret_access_key="s3cret", region_name="us-east-1")
        client.create_bucket(Bucket="fleet")
        over("S3 (moto)", f"s3://fleet/home?endpoint={endpoint}", "garden", "s3cret")
        left = [entry["Key"] for entry in client.list_objects_v2(Bucket="fleet").get("Contents", [])]
        strangers = [name for name in left if not name.startswith("home/devices/garden/receipts/")]
        if strangers or not left:
            sys.exit(f"left in the bucket: {strangers or 'no receipts'}")


def webdav():
    port = free_port()
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        folder.chmod(0o755)
        (folder / "root/home").mkdir(parents=True)
        (folder / "locks").touch()
        subprocess.run(["htpasswd", "-cb", folder / "users", "garden", "p@ss word"], check=True, capture_output=True)
        (folder / "conf").write_text(APACHE.format(folder=folder, port=port, modules=MODULES))
        subprocess.run(["chown", "-R", "www-data:www-data", folder], check=True)
        with running(["apache2", "-f", folder / "conf", "-DFOREGROUND"], port):
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/home/")
                sys.exit("Apache lets everybody in")
            over("WebDAV (Apache)", f"http://127.0.0.1:{port}/home", "garden", "p@ss word")


if len(sys.argv) != 2:
    sys.exit(__doc__)
s3()
webdav()
