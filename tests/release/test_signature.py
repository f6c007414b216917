"""A signed bundle is accepted here and by model-signing's own command, and nothing else is."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gated import Gated

from pytest_onnxcheck.cli import main
from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.release import bundle, publish, verify
from pytest_onnxcheck.release.contents import write_sums
from pytest_onnxcheck.release.keys import PASSWORD, signing_key

pytest.importorskip("model_signing", reason="the extra [sign] is not installed")

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from keys import elliptic, write_key


def sign(gated: Gated, key: Path):
    return bundle(gated.path, gated.root / "models.toml", gated.root / "dist", "net", key=key)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return elliptic(tmp_path / "key.pem")


@pytest.fixture
def folder(gated: Gated, key: Path) -> Path:
    return sign(gated, key).folder


@pytest.fixture
def public(key: Path) -> Path:
    return key.with_suffix(".pub")


def reasons(folder: Path, key: Path | None = None) -> str:
    with pytest.raises(ReleaseError) as raised:
        verify(folder, key)
    return str(raised.value)


def model_signing(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs model-signing's own command line."""
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def model_signing_verifies(folder: Path, key: Path) -> bool:
    signature = ("--signature", folder / "model.sig")
    done = model_signing("verify", "key", folder, *signature, "--public_key", key)
    assert (done.returncode == 0) == ("Verification succeeded" in done.stdout)
    return done.returncode == 0


def test_a_signed_bundle_is_verified_here_and_by_model_signing(folder, public, tmp_path):
    names = {"README.md", "SHA256SUMS", "metadata.json", "model.onnx", "model.sig", "record.json"}
    assert {path.name for path in folder.iterdir()} == names
    moved = folder.rename(tmp_path / "elsewhere")
    found = verify(moved, public)
    assert found.signed_with == file_sha256(public)
    assert set(found.files) == names
    assert model_signing_verifies(moved, public)
    signed = json.loads((moved / "model.sig").read_text())["dsseEnvelope"]["payload"]
    statement = json.loads(base64.b64decode(signed))
    assert statement["subject"][0]["name"] == "net-1.0"
    assert {each["name"] for each in statement["predicate"]["resources"]} == names - {"model.sig"}
    sums = (moved / "SHA256SUMS").read_text()
    assert {line.split("  ")[1] for line in sums.splitlines()} == names - {
        "model.sig",
        "SHA256SUMS",
    }


def test_what_model_signing_signed_is_verified_here(gated, key, public):
    folder = gated.release().folder
    arguments = ("--signature", folder / "model.sig", "--private_key", key, "--no-ignore-git-paths")
    assert model_signing("sign", "key", folder, *arguments).returncode == 0
    assert verify(folder, public).signed_with == file_sha256(public)


def test_what_model_signing_signed_only_in_part_is_refused(gated, key, public):
    folder = gated.release().folder
    arguments = ("--signature", folder / "model.sig", "--private_key", key)
    ignored = ("--ignore-paths", folder / "model.onnx")
    assert model_signing("sign", "key", folder, *arguments, *ignored).returncode == 0
    assert model_signing_verifies(folder, public)
    assert "model.onnx: not signed: it was added after" in reasons(folder, public)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_other_curves(gated, tmp_path, curve):
    key = elliptic(tmp_path / "other.pem", curve)
    folder = sign(gated, key).folder
    assert verify(folder, key.with_suffix(".pub")).signed_with is not None


def test_a_file_that_was_changed_with_every_hash_to_fit(folder, public):
    (folder / "record.json").write_text((folder / "record.json").read_text() + "\n")
    write_sums(folder)
    for text in (reasons(folder, public), reasons(folder)):
        assert "record.json: changed since it was signed: SHA-256 " in text
        assert "SHA256SUMS: changed since it was signed: SHA-256 " in text
        assert "get the bundle again from where it was released" in text
    assert not model_signing_verifies(folder, public)


@pytest.mark.parametrize("name", ["extra.py", ".gitignore", "deeper/extra.py"])
def test_a_file_that_was_added_with_every_hash_to_fit(folder, public, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    write_sums(folder)
    text = reasons(folder, public)
    assert f"{name}: not signed: it was added after the bundle was made: delete it" in text


def test_a_file_that_was_removed_with_every_hash_to_fit(folder, public):
    (folder / "README.md").unlink()
    write_sums(folder)
    assert "README.md: missing, and it was signed: get the bundle again" in reasons(folder, public)
    assert not model_signing_verifies(folder, public)


def test_a_foreign_key(folder, tmp_path):
    other = elliptic(tmp_path / "other.pem").with_suffix(".pub")
    text = reasons(folder, other)
    assert "model.sig: signed with another key (" in text
    assert f") than the one in {other} ({file_sha256(other)[:12]}…): ask whoever released" in text
    assert not model_signing_verifies(folder, other)


def test_a_foreign_signature_that_names_this_key_or_none(folder, gated, public, tmp_path, capfd):
    foreign = elliptic(tmp_path / "other.pem")
    shutil.rmtree(folder)
    sign(gated, foreign)
    signature = folder / "model.sig"
    written = json.loads(signature.read_text())
    for hint in (file_sha256(public), ""):
        written["verificationMaterial"]["publicKey"]["hint"] = hint
        signature.write_text(json.dumps(written))
        assert f"model.sig: not made with the key in {public}" in reasons(folder, public)
    assert capfd.readouterr().out == ""


def test_a_signature_that_was_changed(folder, public):
    signature = folder / "model.sig"
    written = json.loads(signature.read_text())
    made = base64.b64decode(written["dsseEnvelope"]["signatures"][0]["sig"])
    changed = made[:-1] + bytes([made[-1] ^ 1])
    written["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(changed).decode()
    signature.write_text(json.dumps(written))
    text = reasons(folder, public)
    assert f"model.sig: not made with the key in {public}: get the bundle again" in text
    written["dsseEnvelope"]["signatures"] = []
    signature.write_text(json.dumps(written))
    assert f"model.sig: not made with the key in {public} (" in reasons(folder, public)


@pytest.mark.parametrize("keep", [0, 1, 200, -2])
def test_a_signature_that_is_cut(folder, public, keep):
    signature = folder / "model.sig"
    signature.write_bytes(signature.read_bytes()[:keep])
    for text in (reasons(folder, public), reasons(folder)):
        assert "model.sig: cut short, or no signature of model-signing with a key (" in text


@pytest.mark.parametrize("content", ["[]", "7", '{"verificationMaterial": {"publicKey": 1}}', "\0"])
def test_something_else_in_its_place(folder, public, content):
    (folder / "model.sig").write_text(content)
    assert "model.sig: cut short, or no signature" in reasons(folder, public)


def test_an_unsigned_bundle_is_refused_with_a_key(gated, public):
    folder = gated.release().folder
    assert verify(folder).signed_with is None
    text = reasons(folder, public)
    assert f"not signed (model.sig is missing), and must be with the key in {public}" in text
    assert "made with --sign" in text


def test_signed_again_it_is_the_same_bundle(gated, folder, key):
    before = (folder / "model.sig").read_bytes()
    assert sign(gated, key).folder == folder
    assert (folder / "model.sig").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["net-1.0"]


def test_another_key_or_none_makes_another_bundle(gated, folder, key, tmp_path):
    with pytest.raises(ReleaseError, match="exists already and is not signed with this key"):
        sign(gated, elliptic(tmp_path / "other.pem"))
    with pytest.raises(ReleaseError, match="exists already and is signed"):
        gated.release()
    (folder / "model.sig").unlink()
    with pytest.raises(ReleaseError, match="exists already and is not signed with this key"):
        sign(gated, key)


def test_signing_that_fails_leaves_nothing(gated, key, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules[bundle.__module__], "sign", full)
    with pytest.raises(OSError, match="No space left"):
        sign(gated, key)
    assert list((gated.root / "dist").iterdir()) == []


def test_an_encrypted_key(gated, tmp_path, monkeypatch, capsys):
    key = elliptic(tmp_path / "locked.pem", password="open sesame 7")
    monkeypatch.chdir(gated.root)
    arguments = ["release", "record.json", "--model", "net", "--sign", str(key)]
    assert main(arguments) == 1
    text = capsys.readouterr().err
    assert f"{key} is encrypted: put its password into the environment variable {PASSWORD}" in text
    monkeypatch.setenv(PASSWORD, "close sesame 8")
    assert main(arguments) == 1
    text = capsys.readouterr().err
    assert f"{key} is encrypted, and the password in {PASSWORD} does not open it" in text
    assert "close sesame" not in text
    assert not Path("dist").exists()
    monkeypatch.setenv(PASSWORD, "open sesame 7")
    assert main(arguments) == 0
    assert "open sesame" not in repr(signing_key(key))
    secrets = [b"open sesame", *key.read_bytes().splitlines()[1:-1]]
    said = "".join(capsys.readouterr()).encode()
    for content in (said, *(path.read_bytes() for path in Path("dist/net-1.0").iterdir())):
        assert not [secret for secret in secrets if secret in content]
    verify(Path("dist/net-1.0"), key.with_suffix(".pub"))


def test_a_password_that_is_not_needed(gated, key, monkeypatch):
    monkeypatch.setenv(PASSWORD, "for another key")
    assert sign(gated, key).signed_with is not None


def unusable(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "key.pem"
    if kind == "RSA":
        write_key(path, rsa.generate_private_key(65537, 2048))
    elif kind == "Ed25519":
        write_key(path, ed25519.Ed25519PrivateKey.generate())
    elif kind == "curve":
        elliptic(path, ec.SECP256K1())
    elif kind == "public":
        path = elliptic(path).with_suffix(".pub")
    elif kind == "text":
        path.write_text("secret words, no key\n")
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("RSA", "is a key of type RSA: it must be an elliptic one (P-256, P-384, P-521)"),
        ("Ed25519", "is a key of type Ed25519: it must be an elliptic one"),
        ("curve", "is a key on the curve secp256k1: it must be on one of P-256"),
        ("public", "holds a public key: sign with a private one, made by `openssl genpkey"),
        ("text", "holds no private key in PEM: sign with a private one, made by `openssl"),
        ("folder", "cannot be read: Is a directory"),
        ("missing", "not found: "),
    ],
)
def test_a_key_that_cannot_sign(gated, tmp_path, kind, told):
    key = unusable(tmp_path, kind)
    with pytest.raises(ReleaseError, match="nothing is signed") as raised:
        sign(gated, key)
    assert told in str(raised.value)
    assert str(key) in str(raised.value)
    assert "secret words" not in str(raised.value)
    assert not (gated.root / "dist").exists()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("RSA", "is a key of type RSA: it must be an elliptic one"),
        ("curve", "is a key on the curve secp256k1"),
        ("text", "holds no public key in PEM: verify with one made by `openssl pkey"),
        ("missing", "not found: "),
    ],
)
def test_a_key_that_cannot_verify(folder, tmp_path, kind, told):
    (tmp_path / "deeper").mkdir()
    key = unusable(tmp_path / "deeper", kind)
    assert told in reasons(folder, key.with_suffix(".pub") if kind in ("RSA", "curve") else key)


def test_the_private_key_is_no_key_to_verify_with(folder, key):
    text = reasons(folder, key)
    assert f"{key} holds a private key: verify with the public one, made by `openssl pkey" in text


def test_without_model_signing_it_is_told_what_to_install(gated, folder, key, public, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing.signing", None)
    for attempt in (lambda: sign(gated, key), lambda: verify(folder, public)):
        with pytest.raises(ReleaseError, match=r"pip install 'pytest-onnxcheck\[sign\]'"):
            attempt()
    assert verify(folder).signed_with == file_sha256(public)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the messages name openssl")
def test_keys_made_as_the_messages_say(gated, tmp_path):
    from pytest_onnxcheck.release import keys

    for command in (keys._MAKE, keys._PUBLIC):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    folder = sign(gated, tmp_path / "key.pem").folder
    assert verify(folder, tmp_path / "key.pub").signed_with == file_sha256(tmp_path / "key.pub")


def test_the_command_says_how_it_is_signed(gated, key, public, monkeypatch, capsys):
    monkeypatch.chdir(gated.root)
    assert main(["release", "record.json", "--model", "net", "--sign", str(key)]) == 0
    capsys.readouterr()
    assert main(["verify", "dist/net-1.0"]) == 0
    told = f"; signed with {file_sha256(public)[:12]}…, which was not checked (--key PUBLIC)\n"
    assert capsys.readouterr().out.endswith(f": as it was made{told}")
    assert main(["verify", "dist/net-1.0", "--key", str(public)]) == 0
    assert capsys.readouterr().out.endswith(f": as it was made, and signed with {public}\n")
    assert main(["verify", "dist/net-1.0", "--key", str(public), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["signed_with"] == file_sha256(public)


def test_publishing_says_of_an_unsigned_bundle_alone_that_it_is_not_signed(gated, folder, tmp_path):
    assert list(publish(folder, tmp_path / "published").told) == []
    folder.rename(tmp_path / folder.name)
    (told,) = publish(gated.release().folder, tmp_path / "published").told
    assert told.startswith("not signed: ")
