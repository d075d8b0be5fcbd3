"""Quotes of a TPM that answers as it is told: the commands sent, and every way to fail."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from binder_asks import bind_ask, the_unbound, tpm_result
from hypothesis import given
from hypothesis import strategies as st

from ccverify.bundle.tpm_item import parse_tpm_item
from ccverify.collect import tpm as module
from ccverify.collect.model import AbsenceReason, Item
from ccverify.collect.tpm import (
    DEFAULT_PCRS,
    TpmBinder,
    parse_pcr_selection,
    tpm_binder,
)
from ccverify.collect.tpm_channel import DEFAULT_DEVICE
from ccverify.errors import UsageError
from ccverify.sim.operator import SimOperator
from ccverify.sim.tpm import SimTpm
from ccverify.sim.tpm_device import SimTpmDevice

CREATE, QUOTE, FLUSH, READ_PUBLIC, PCR_READ = 0x131, 0x158, 0x165, 0x173, 0x17E


def binder(device: Any, pcrs: str = DEFAULT_PCRS, **options: Any) -> TpmBinder:
    return TpmBinder(DEFAULT_DEVICE, parse_pcr_selection(pcrs), opened=lambda *_: device, **options)


def test_a_key_is_made_quotes_and_is_given_up_again() -> None:
    device = SimTpmDevice()
    result = tpm_result(binder(device).bind(bind_ask()))
    assert device.commands == [CREATE, PCR_READ, PCR_READ, QUOTE, FLUSH]
    assert device.loaded == set()
    assert result.name == device.tpm.name.hex()
    assert result.hierarchy == "endorsement"
    assert result.pcrs == {"sha256": {index: device.tpm.pcr(index) for index in range(15)}}


def test_a_persistent_key_is_read_and_left_where_it_is() -> None:
    device = SimTpmDevice(SimTpm(curve="P-384", scheme="sha384"))
    chain = device.tpm.chain().encode()
    outcome = binder(device, handle=0x81010001, chain=chain).bind(bind_ask())
    tpm_result(outcome)
    assert device.commands == [READ_PUBLIC, PCR_READ, PCR_READ, QUOTE]
    assert isinstance(outcome, Item)
    assert parse_tpm_item(outcome.data).chain == chain
    assert outcome.source == "TPM /dev/tpmrm0"


def test_any_selection_is_read_eight_at_a_time() -> None:
    device = SimTpmDevice()
    result = tpm_result(binder(device, "sha384:23,0-1+sha1:5+sha256:0-23").bind(bind_ask()))
    assert {bank: list(values) for bank, values in result.pcrs.items()} == {
        "sha384": [0, 1, 23],
        "sha256": list(range(24)),
    }
    assert device.commands.count(PCR_READ) == 4


def test_the_owners_hierarchy_has_a_key_of_its_own() -> None:
    found = [
        tpm_result(binder(SimTpmDevice(), hierarchy=name).bind(bind_ask()))
        for name in ("endorsement", "owner")
    ]
    assert [result.hierarchy for result in found] == ["endorsement", "owner"]


class Measuring(SimTpmDevice):
    """Something is measured after the PCRs were read, as often as told."""

    left = 0

    def transmit(self, command: bytes, remaining: Callable[[], float]) -> bytes:
        if struct.unpack(">I", command[6:10])[0] == QUOTE and self.left > 0:
            self.left -= 1
            measured = {**self.tpm.measured, 10: b"event %d" % self.left}
            self.tpm = replace(self.tpm, measured=measured)
        return super().transmit(command, remaining)


def test_pcrs_that_changed_meanwhile_are_read_again() -> None:
    device = Measuring()
    device.left = 3
    result = tpm_result(binder(device).bind(bind_ask()))
    assert device.commands.count(QUOTE) == 4
    assert result.pcrs["sha256"][10] == device.tpm.pcr(10)
    device.left = 1000
    absence = the_unbound(binder(device).bind(bind_ask()))
    assert (absence.reason, absence.label) == (AbsenceReason.FAILED, "tpm-quote")
    assert "signed digest" in absence.text
    assert "extend" in absence.remedy
    assert device.loaded == set()


# --- what a TPM refuses ---


@pytest.mark.parametrize(
    ("command", "code", "reason", "words"),
    [
        (CREATE, 0x185, AbsenceReason.NOT_SUPPORTED, "hierarchy"),
        (CREATE, 0x9A2, AbsenceReason.NO_PERMISSION, "password"),
        (CREATE, 0x98E, AbsenceReason.NO_PERMISSION, "password"),
        (CREATE, 0x902, AbsenceReason.FAILED, "no room"),
        (CREATE, 0x921, AbsenceReason.FAILED, "lockout"),
        (CREATE, 0x100, AbsenceReason.FAILED, "not started"),
        (CREATE, 0x1E, AbsenceReason.NOT_SUPPORTED, "TPM 1.2"),
        (CREATE, 0xB0143, AbsenceReason.FAILED, "0xb0143"),
        (PCR_READ, 0x1C4, AbsenceReason.FAILED, "TPM2_PCR_Read gave TPM_RC 0x1c4"),
        (QUOTE, 0x9A2, AbsenceReason.NO_PERMISSION, "password"),
    ],
)
def test_what_the_tpm_refuses_is_said_in_words(
    command: int, code: int, reason: AbsenceReason, words: str
) -> None:
    device = SimTpmDevice(fails={command: code})
    absence = the_unbound(binder(device).bind(bind_ask()))
    assert absence.reason is reason
    assert words in absence.text
    assert device.loaded == set()


def test_a_handle_without_a_key_is_not_present() -> None:
    made = binder(SimTpmDevice(), handle=0x81010002)
    for absence in (the_unbound(made.bind(bind_ask())), *made.diagnose()):
        assert absence.reason is AbsenceReason.NOT_PRESENT
        assert "no key under this handle" in absence.text


def test_a_key_that_cannot_be_given_up_does_not_spoil_the_quote() -> None:
    tpm_result(binder(SimTpmDevice(fails={FLUSH: 0x18B})).bind(bind_ask()))


def test_a_bank_that_is_off_is_said() -> None:
    made = binder(SimTpmDevice(banks=("sha256",)), "sha256:0+sha384:0-2")
    for absence in (the_unbound(made.bind(bind_ask())), *made.diagnose()):
        assert absence.reason is AbsenceReason.NOT_SUPPORTED
        assert "no PCR 0, 1, 2 in its bank sha384" in absence.text


@pytest.mark.parametrize(
    ("tpm", "words"),
    [
        (SimTpm(attributes=0x00040472), "lacks RESTRICTED"),
        (SimTpm(attributes=0x00030472), "lacks SIGN"),
        (SimTpm(scheme=None), "no scheme"),
    ],
)
def test_a_key_whose_quote_proves_nothing_is_not_used(tpm: SimTpm, words: str) -> None:
    absence = the_unbound(binder(SimTpmDevice(tpm), handle=0x81010001).bind(bind_ask()))
    assert absence.reason is AbsenceReason.FAILED
    assert words in absence.text


def test_a_certificate_of_another_key_is_not_put_in() -> None:
    chain = SimTpm("another").chain().encode()
    absence = the_unbound(binder(SimTpmDevice(), chain=chain).bind(bind_ask()))
    assert "certificate: the first one given is for another key" in absence.text


def test_a_tpm_that_is_busy_is_asked_again_until_the_time_is_up() -> None:
    class Busy(SimTpmDevice):
        left = 3

        def transmit(self, command: bytes, remaining: Callable[[], float]) -> bytes:
            self.left -= 1
            busy = (0x922, 0x908, 0x90A)
            self.fails = {CREATE: busy[self.left % 3]} if self.left >= 0 else {}
            return super().transmit(command, remaining)

    tpm_result(binder(Busy()).bind(bind_ask()))
    forever = SimTpmDevice(fails={CREATE: 0x922})
    absence = the_unbound(binder(forever).bind(bind_ask(0.05)))
    assert absence.reason is AbsenceReason.TIMEOUT


# --- what is no TPM ---


class Saying:
    """Says what it is told."""

    def __init__(self, *responses: bytes | BaseException) -> None:
        self.responses = list(responses)
        self.closed = 0

    def transmit(self, command: bytes, remaining: Callable[[], float]) -> bytes:
        response = self.responses.pop(0) if self.responses else b""
        if isinstance(response, BaseException):
            raise response
        return response

    def close(self) -> None:
        self.closed += 1


def ok(body: bytes, tag: int = 0x8001) -> bytes:
    return struct.pack(">HII", tag, 10 + len(body), 0) + body


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        struct.pack(">HII", 0x8001, 11, 0),
        ok(b"", 0x8002),
        ok(b"\x80\0\0\0" + bytes(4) + b"\xff\xff", 0x8002),
    ],
)
def test_what_is_no_response_is_said_to_be_none(response: bytes) -> None:
    channel = Saying(response)
    absence = the_unbound(binder(channel).bind(bind_ask()))
    assert absence.reason is AbsenceReason.FAILED
    assert "no TPM 2.0 response" in absence.text
    assert channel.closed == 1


@given(st.lists(st.binary(max_size=80), max_size=6), st.booleans())
def test_whatever_answers_there_is_an_absence(answers: list[bytes], framed: bool) -> None:
    responses = [ok(answer) for answer in answers] if framed else answers
    made = binder(Saying(*responses))
    assert the_unbound(made.bind(bind_ask())).label == "tpm-quote"
    binder(Saying(*responses)).diagnose()


def test_pcrs_that_were_not_asked_for_are_refused() -> None:
    given_ = struct.pack(">I", 1) + b"\0\x0b\x03\0\0\x80" + struct.pack(">I", 1) + b"\0\x20"
    device = SimTpmDevice()
    wrong = ok(bytes(4) + given_ + bytes(32))
    create = device.transmit(struct.pack(">HIII", 0x8002, 14, CREATE, 0x4000000B), lambda: 1.0)
    absence = the_unbound(binder(Saying(create, wrong)).bind(bind_ask()))
    assert "PCR that was not asked for" in absence.text


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (FileNotFoundError(errno.ENOENT, "no such file"), AbsenceReason.NOT_PRESENT),
        (PermissionError(errno.EACCES, "denied"), AbsenceReason.NO_PERMISSION),
        (OSError(errno.EBUSY, "busy"), AbsenceReason.FAILED),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), AbsenceReason.NOT_PRESENT),
        (TimeoutError(), AbsenceReason.TIMEOUT),
        (OSError(errno.EIO, "input/output"), AbsenceReason.FAILED),
        (OSError("resolver: no such name"), AbsenceReason.FAILED),
    ],
)
def test_every_trouble_on_the_way_is_an_absence(problem: OSError, reason: AbsenceReason) -> None:
    def refuse(*_: object) -> Any:
        raise problem

    closed = TpmBinder(DEFAULT_DEVICE, parse_pcr_selection(DEFAULT_PCRS), opened=refuse)
    assert the_unbound(closed.bind(bind_ask())).reason is reason
    (absence,) = closed.diagnose()
    assert absence.reason is reason
    channel = Saying(problem)
    assert the_unbound(binder(channel).bind(bind_ask())).reason is reason
    assert channel.closed == 1


def test_a_diagnosis_signs_nothing() -> None:
    device = SimTpmDevice()
    assert binder(device, handle=0x81010001).diagnose() == ()
    assert set(device.commands) == {PCR_READ, READ_PUBLIC}


# --- options ---


def test_options_become_a_binder() -> None:
    made = tpm_binder()
    assert (made.name, made.label) == ("TPM", "tpm-quote")
    chain = SimTpm().chain().encode()
    assert tpm_binder("127.0.0.1:2321", handle="0x81010001", hierarchy="owner", chain=chain,
                      pcrs="sha384:0")  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"address": ""},
        {"address": "tpmrm0"},
        {"address": "/dev/tpm\0"},
        {"address": "host"},
        {"address": "host:0"},
        {"address": "host:65536"},
        {"address": "ho st:1"},
        {"handle": "0x80000000"},
        {"handle": "0x82000000"},
        {"handle": "81010001"},
        {"handle": "0x8101000"},
        {"handle": "0x8101000g"},
        {"hierarchy": "null"},
        {"chain": b""},
        {"chain": b"-----BEGIN CERTIFICATE-----"},
        {"chain": SimOperator().root().der()},
        {"pcrs": "sha1:0-7"},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        tpm_binder(**options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sha256:0", ["sha256:0"]),
        ("sha256:0-3,7,7,2", ["sha256:0,1,2,3,7"]),
        ("sha1:0+sha512:23+sha384:5-5", ["sha1:0", "sha512:23", "sha384:5"]),
    ],
)
def test_pcrs_are_named_by_bank_and_index(text: str, expected: list[str]) -> None:
    assert [str(one) for one in parse_pcr_selection(text)] == expected


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256:", "sha256:24", "sha256:3-1", "sha256:0,", "sha256:-1", "md5:0",
     "sha256:0+sha256:1", "sha256:0++sha384:0", "sha256:00000000000000000000000001", "SHA256:0",
     "sha256:0-99999999999999999999", "sha256:0 ", "sha1:0", "sha256:" + ",".join("0" * 500)],
)  # fmt: skip
def test_pcrs_that_are_named_wrongly_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_pcr_selection(text)


@given(st.text(max_size=40))
def test_any_text_names_pcrs_or_is_refused(text: str) -> None:
    try:
        found = parse_pcr_selection(text)
    except UsageError:
        return
    assert found


def test_the_module_says_how_long_it_looks() -> None:
    assert 0 < module._PROBE_S < 10
