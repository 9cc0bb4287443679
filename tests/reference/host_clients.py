#!/usr/bin/env python3
"""Clients that others wrote against the host's own place: boto3 and rclone, as the operator and as a board.

    host_clients.py EDGEBLIP EDGEBLIP_TRAINER

Needs boto3 (requirements.txt) and Debian's rclone.
"""

import base64
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

EDGEBLIP, TRAINER = (os.path.abspath(path) for path in sys.argv[1:3])


def check(fact, what):
    if not fact:
        sys.exit(f"FAILED  {what}")


def say(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def client(endpoint, user, secret):
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    return boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=user, aws_secret_access_key=secret, region_name="us-east-1", config=config)


def refused(call, *codes):
    try:
        call()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        check(code in codes, f"{code} is none of {codes}")
        check(error.response["ResponseMetadata"]["HTTPHeaders"].get("date"), "every answer says what time it is")
        return
    sys.exit(f"FAILED  it was to be refused with {codes}")


def board(folder, host, endpoint):
    """Lets a board in; its key, as the grant has it."""
    request, grant = folder / "request", folder / "grant"
    say(EDGEBLIP, "enrol", "--out", request, "--name", "garden", "--store", folder / "pairs")
    say(TRAINER, "devices", "approve", "--host", host, request, "--out", grant, "--served", endpoint)
    payload = json.loads(grant.read_text())["payload"]
    credentials = json.loads(base64.b64decode(payload))["credentials"]
    return credentials["user"], credentials["secret"]


def with_boto3(endpoint, operator, garden):
    ours, theirs = client(endpoint, *operator), client(endpoint, *garden)
    # The inbox would take a shard away at once.
    report = b"a report" * 1000
    name = f"devices/garden/health/{hashlib.sha256(report).hexdigest()}.json"
    theirs.put_object(Bucket="home", Key=name, Body=report)
    check(theirs.head_object(Bucket="home", Key=name)["ContentLength"] == len(report), "HEAD of what was put")
    refused(lambda: theirs.put_object(Bucket="home", Key=name, Body=b"other"), "BadDigest")
    refused(lambda: theirs.get_object(Bucket="home", Key=name), "AccessDenied")
    refused(lambda: theirs.list_objects_v2(Bucket="home"), "AccessDenied")
    refused(lambda: theirs.delete_object(Bucket="home", Key=name), "AccessDenied")
    refused(lambda: client(endpoint, garden[0], "wrong").head_object(Bucket="home", Key=name), "403", "SignatureDoesNotMatch")
    check(ours.get_object(Bucket="home", Key=name)["Body"].read() == report, "GET of what was put")
    part = ours.get_object(Bucket="home", Key=name, Range="bytes=3-9")
    check(part["Body"].read() == report[3:10] and part["ResponseMetadata"]["HTTPStatusCode"] == 206, "a range")
    for number in range(1203):
        ours.put_object(Bucket="home", Key=f"releases/files/{number:04}", Body=str(number).encode())
    pages = ours.get_paginator("list_objects_v2").paginate(Bucket="home", Prefix="releases/")
    names = [entry["Key"] for page in pages for entry in page["Contents"]]
    check(names == [f"releases/files/{number:04}" for number in range(1203)], "a list in pages")
    folders = ours.list_objects_v2(Bucket="home", Delimiter="/")["CommonPrefixes"]
    check({entry["Prefix"] for entry in folders} <= {"devices/", "releases/"}, f"folders: {folders}")
    ours.delete_object(Bucket="home", Key="releases/files/0000")
    refused(lambda: ours.get_object(Bucket="home", Key="releases/files/0000"), "NoSuchKey")
    refused(lambda: ours.get_object(Bucket="other", Key="x"), "NoSuchBucket")
    for key in ["../host.key", "a/../../host.key", ".hidden", "a//b"]:
        refused(lambda key=key: ours.get_object(Bucket="home", Key=key), "AccessDenied", "InvalidArgument", "NoSuchKey", "InvalidURI", "SignatureDoesNotMatch")
    print("ok   boto3: put, get, range, head, pages, folders, delete; a board's key is refused all but its own", flush=True)


def with_rclone(folder, endpoint, operator):
    here, back = folder / "here", folder / "back"
    here.mkdir()
    for number in range(200):
        (here / f"file-{number}").write_bytes(hashlib.sha256(str(number).encode()).digest() * (number * 37 % 5000 + 1))
    environment = os.environ | {
        "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_HOME_TYPE": "s3", "RCLONE_CONFIG_HOME_PROVIDER": "Other",
        "RCLONE_CONFIG_HOME_ACCESS_KEY_ID": operator[0], "RCLONE_CONFIG_HOME_SECRET_ACCESS_KEY": operator[1],
        "RCLONE_CONFIG_HOME_ENDPOINT": endpoint, "RCLONE_CONFIG_HOME_REGION": "us-east-1", "RCLONE_CONFIG_HOME_LIST_VERSION": "2"}
    # Old versions stop at a bundle of certificates, which nobody needs here.
    environment.pop("AWS_CA_BUNDLE", None)
    there = "home:home/releases/rclone"
    flags = ["--s3-no-check-bucket", "--retries", "1"]
    say("rclone", "copy", *flags, here, there, env=environment)
    say("rclone", "check", "--download", *flags, here, there, env=environment)
    say("rclone", "copy", *flags, there, back, env=environment)
    check(all((back / file.name).read_bytes() == file.read_bytes() for file in here.iterdir()), "what came back")
    say("rclone", "delete", *flags, there, env=environment)
    print("ok   rclone: 200 files there, compared, back, deleted", flush=True)


def main():
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        host = folder / "host"
        server = subprocess.Popen(
            [TRAINER, "serve", "--host", host, "--listen", "127.0.0.1:0", "--page", "127.0.0.1:0", "--every", "3600", "--json"],
            stdout=subprocess.PIPE, text=True)
        try:
            endpoint = f"http://{json.loads(server.stdout.readline())['listen']}"
            operator = (host / "operator.key").read_text().split()
            garden = board(folder, host, endpoint)
            with_boto3(endpoint, operator, garden)
            with_rclone(folder, endpoint, operator)
        finally:
            server.send_signal(signal.SIGTERM)
            check(server.wait(30) == 0, "the host stops as it should")


main()
