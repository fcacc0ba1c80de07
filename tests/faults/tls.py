"""Certificates of a server for its address: one that is valid, and one that has expired."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from proxy import HOST

_EXTENSIONS: Final = f"authorityKeyIdentifier=keyid\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=IP:{HOST}\n"
_CURVE: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DATES: Final = {"valid": ("20250101000000Z", "20990101000000Z"), "expired": ("20250101000000Z", "20250201000000Z")}
_CA: Final = """
[ca]
default_ca = ours
[ours]
database = {folder}/index.txt
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


@dataclass(frozen=True)
class Certificates:
    """`root` is the certificate of the authority; the others are ready for a server."""

    root: Path
    valid: ssl.SSLContext
    expired: ssl.SSLContext

    @classmethod
    def made(cls, folder: Path) -> "Certificates":
        """Made by openssl in a folder; skips the test without openssl."""
        own = folder / "tls"
        own.mkdir()
        (own / "index.txt").touch()
        (own / "serial").write_text("01\n")
        (own / "ca.cnf").write_text(_CA.format(folder=own))
        (own / "server.ext").write_text(_EXTENSIONS)
        root, key = own / "root.crt", own / "root.key"
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        _openssl("req", "-x509", *_CURVE, "-keyout", key, "-subj", "/CN=ours", *usage, "-days", "2", "-out", root)
        contexts = {}
        for name, (start, end) in _DATES.items():
            request, signed, own_key = (own / f"{name}.{ending}" for ending in ("csr", "crt", "key"))
            _openssl("req", *_CURVE, "-keyout", own_key, "-subj", f"/CN={name}", "-out", request)
            authority = ("-config", own / "ca.cnf", "-cert", root, "-keyfile", key, "-extfile", own / "server.ext")
            dates = ("-startdate", start, "-enddate", end)
            _openssl("ca", "-batch", "-notext", *authority, *dates, "-in", request, "-out", signed)
            contexts[name] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            contexts[name].load_cert_chain(signed, own_key)
        return cls(root, contexts["valid"], contexts["expired"])


def _openssl(*arguments: str | Path) -> None:
    try:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl; install openssl")
