"""Authorities and certificates of the tests, made by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Authority:
    """An authority that signs certificates, in a folder of its own."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    def sign(self, name: str, subject: str, *extensions: str) -> Path:
        """A certificate; its key is beside it."""
        certificate, request, lines = (self.folder / f"{name}.{end}" for end in ("crt", "csr", "ext"))
        more = ("authorityKeyIdentifier=keyid", "basicConstraints=critical,CA:FALSE", *extensions)
        lines.write_text("\n".join(more) + "\n")
        openssl("req", *_new_key(certificate), "-subj", f"/CN={subject}", "-out", request)
        signed_by = ("-CA", self.certificate, "-CAkey", self.certificate.with_suffix(".key"), "-CAcreateserial")
        openssl("x509", "-req", "-in", request, *signed_by, "-days", "2", "-extfile", lines, "-out", certificate)
        return certificate


def new_authority(folder: Path, name: str) -> Authority:
    """An authority that has signed nothing yet."""
    authority = Authority(folder)
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    subject = ("-subj", f"/CN={name}", *usage, "-days", "2")
    openssl("req", "-x509", *_new_key(authority.certificate), *subject, "-out", authority.certificate)
    return authority


def _new_key(certificate: Path) -> tuple[str | Path, ...]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    return (*curve, "-nodes", "-keyout", certificate.with_suffix(".key"))


def openssl(*arguments: str | Path) -> None:
    """Run openssl to its end."""
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
