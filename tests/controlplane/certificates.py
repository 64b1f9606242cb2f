"""The certificates of one test control plane: its authority, its servers, its users.

A user's name is the common name of a client certificate, the groups are its organizations; that is
how kube-apiserver reads them (`--client-ca-file`).
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, or a public and its private key, both as PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Signs what the control plane and its users identify themselves with."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.certificate: bytes = self._ca.cert_pem.bytes()

    def server(self, *names: str) -> Pair:
        """A certificate for a server of these host names and addresses."""
        leaf = self._ca.issue_cert(*names)
        return Pair(
            b"".join(each.bytes() for each in leaf.cert_chain_pems), leaf.private_key_pem.bytes()
        )

    def client(self, user: str, groups: Sequence[str] = ()) -> Pair:
        """A certificate for a user who is in these groups."""
        key = ec.generate_private_key(ec.SECP256R1())
        signing_key = serialization.load_pem_private_key(
            self._ca.private_key_pem.bytes(), password=None
        )
        assert isinstance(signing_key, ec.EllipticCurvePrivateKey)
        certificate = _client_request(user, groups, self.certificate).public_key(key.public_key())
        return Pair(
            certificate.sign(signing_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            _private(key),
        )


def service_account_keys() -> Pair:
    """The RSA keys with which service account tokens are signed and verified."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Pair(public, _private(key))


def _client_request(user: str, groups: Sequence[str], authority: bytes) -> x509.CertificateBuilder:
    """All of a client certificate but its key and signature."""
    now = dt.datetime.now(dt.UTC)
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(x509.load_pem_x509_certificate(authority).subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALID)
        .not_valid_after(now + VALID)
        .add_extension(usage, critical=False)
    )


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
