"""The vectors in `tests/vectors`: the script makes those very files, what is good reads, what is bad is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sealtrail.certificate import Certificate, Role, verify_certificate
from sealtrail.checkpoint import parse_checkpoint, verify_checkpoint
from sealtrail.ending import parse_end
from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.proof import parse_proof, verify_proof
from sealtrail.seal import decode_seal, decode_sealed_event, leaf_hash
from sealtrail.segment import decode_frames, decode_segment, open_frame
from sealtrail.session import hpke_open, unwrap_session_key, verify_session
from sealtrail.sworn import sworn
from sealtrail.token import FieldCipher, parse_wrapped_key, subject_prefix
from tests.archives import AUDIENCE, NOT_AFTER_S, NOT_BEFORE_S, PART, ROOT, START_S, opening_key, public_of, seed
from tests.bundles import opened, verified
from tests.vectors import make

FILES = {
    path.relative_to(make.FOLDER).as_posix(): path
    for path in make.FOLDER.rglob("*")
    if path.is_file() and path.suffix != ".pyc"
}
KEYRING = Keyring(
    [
        Certificate(Role.ARCHIVE, PART, public_of("archive"), NOT_BEFORE_S, NOT_AFTER_S),
        Certificate(Role.SEALER, PART, public_of("sealer"), NOT_BEFORE_S, NOT_AFTER_S),
        Certificate(Role.SOURCE, "github", public_of("source-github"), NOT_BEFORE_S, NOT_AFTER_S),
    ]
)
DECODERS: dict[str, Callable[[bytes], object]] = {
    "seal": decode_seal,
    "segment": decode_segment,
    "checkpoint": parse_checkpoint,
    "certificate": partial(verify_certificate, root=ROOT),
    "end": parse_end,
    "proof": lambda data: verify_proof(parse_proof(data), KEYRING),
    "bundle": opened,
}


def vector(name: str) -> bytes:
    return FILES[name].read_bytes()


def test_the_script_makes_exactly_the_files_that_are_here() -> None:
    """If a format changed on purpose: `python -m tests.vectors.make`, and say so in the change log."""
    made = make.good() | make.bad() | make.archive() | make.bundles()
    whole = {name for name in FILES if name.startswith("kept/archive/")}
    assert set(made) | set(make.kept_alone()) | whole | {"__init__.py", "make.py"} == set(FILES)
    for name, data in made.items():
        assert vector(name) == data, name


@pytest.mark.parametrize("name", sorted(n for n in FILES if n.startswith("bad/")))
def test_what_is_bad_is_refused(name: str) -> None:
    with pytest.raises(EvidenceError):
        DECODERS[Path(name).parts[1]](vector(name))


def test_what_is_good_reads_as_it_was_made() -> None:
    assert decode_seal(vector("good/seal.bin")) == make.SEAL_1
    event = decode_sealed_event(vector("good/sealed_event.bin"))
    assert (event.seal, event.content) == (vector("good/seal.bin"), make.CONTENT)
    segment = decode_segment(vector("good/segment.avro"))
    assert segment == make.segment()
    assert not sworn(segment, KEYRING).problems
    assert verify_checkpoint(vector("good/checkpoint.txt"), public_of("archive")).checkpoint.size == 2
    assert verify_certificate(vector("good/certificate.txt"), ROOT).role is Role.SEALER
    end = parse_end(vector("good/end.txt"))
    assert (end.key_id.hex(), end.marks[make.CHAIN].size) == (KEYRING.of_role(Role.SEALER)[0].key_id.hex(), 7)
    assert leaf_hash(segment.seals[0]) == make.SEAL_1.prev
    proven = verify_proof(parse_proof(vector("good/record.tlog-proof")), KEYRING)
    assert (proven.seal, proven.sealed.content, proven.attested) == (make.SEAL_1, make.CONTENT, True)


def test_a_kept_bundle_still_verifies() -> None:
    assert verified(vector("kept/good.bundle")).good
    assert opened(vector("good/form.bundle")).filter.tenant == "acme"


def test_kept_ciphertexts_still_open() -> None:
    (frame,) = decode_frames(vector("kept/contents.avro"))
    opened = open_frame(frame, partial(hpke_open, opening_key("tenant-data-@deployment")))
    assert opened == [(0, make.CONTENT), (1, make.CONTENT)]
    session = verify_session(vector("kept/session.bin"), KEYRING, START_S)
    assert (session.run, session.audience) == (make.RUN, AUDIENCE)
    assert unwrap_session_key(session, partial(hpke_open, opening_key("pipeline"))) == seed("session")


def test_a_kept_subjects_key_still_opens_and_reads_its_token() -> None:
    values = json.loads(vector("good/values.json"))["tokens"]
    index, key_id = bytes.fromhex(values["index of 'bob'"]), bytes.fromhex(values["its id"])
    read = parse_wrapped_key(subject_prefix(make.CHAIN, index) + key_id, vector("kept/subject_key.bin"))
    key = read.open(partial(hpke_open, opening_key("tenant-subject-acme")))
    assert (key.key.hex(), key.open(values["token for acme"])) == (values["subject's key"], values["text"])
    assert FieldCipher(seed("session")).decrypt(7, bytes(range(16)), "actor.login", values["encrypted"]) == values["text"]
