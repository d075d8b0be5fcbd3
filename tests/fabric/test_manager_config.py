"""Configurations of the Fabric Manager and NVLSM."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccverify.errors import EvidenceError
from ccverify.fabric.manager_config import (
    MAX_CONFIG_BYTES,
    ManagerConfig,
    NvlsmConfig,
    is_loopback,
    parse_guid,
    parse_manager_config,
    parse_nvlsm_config,
)

SHIPPED = """\
# Fabric Manager configuration: every key that the guide names
#\tDescription: 0 \u2013 bare metal
LOG_LEVEL=4
LOG_FILE_NAME=/var/log/fabricmanager.log
LOG_USE_SYSLOG=0
DAEMONIZE=1

BIND_INTERFACE_IP=127.0.0.1
STARTING_TCP_PORT=16000
UNIX_SOCKET_PATH=
FABRIC_MODE=1
FABRIC_MODE_RESTART=0
STATE_FILE_NAME=/var/tmp/fabricmanager.state
FM_CMD_BIND_INTERFACE = 127.0.0.1\r
FM_CMD_PORT_NUMBER=6666
FM_CMD_UNIX_SOCKET_PATH=
FM_STAY_RESIDENT_ON_FAILURES=0
FM_SM_IPC_INTERFACE=/var/run/nvidia-fabricmanager/fm_sm_ipc.socket
FM_SM_MGMT_PORT_GUID=0x0
TOPOLOGY_FILE_PATH=/usr/share/nvidia/nvswitch
PARTITION_RAIL_POLICY=greedy
SHARED_PARTITION_DEFINITION_FILE=/etc/partitions.json
ABORT_CUDA_JOBS_ON_FM_EXIT=1
"""
U32 = (1 << 32) - 1
KEY = st.from_regex(r"[A-Z][A-Z_]{0,20}", fullmatch=True).filter(
    lambda key: key not in KNOWN and key != "FM_SM_MGMT_PORT_GUID"
)
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
KNOWN = {line.partition("=")[0].strip() for line in SHIPPED.splitlines() if "=" in line} - {
    "DAEMONIZE",
    "ABORT_CUDA_JOBS_ON_FM_EXIT",
}


def test_every_key_of_the_guide_is_typed() -> None:
    config = parse_manager_config(SHIPPED.encode())
    assert config == ManagerConfig(
        fabric_mode=1,
        fabric_mode_restart=0,
        rail_policy="greedy",
        bind_interface="127.0.0.1",
        port=6666,
        unix_socket="",
        internal_interface="127.0.0.1",
        internal_port=16000,
        internal_socket="",
        ipc_interface="/var/run/nvidia-fabricmanager/fm_sm_ipc.socket",
        management_guid=0,
        partition_file="/etc/partitions.json",
        state_file="/var/tmp/fabricmanager.state",
        topology_directory="/usr/share/nvidia/nvswitch",
        log_file="/var/log/fabricmanager.log",
        log_level=4,
        log_to_syslog=0,
        stay_resident=0,
        other={"DAEMONIZE": "1", "ABORT_CUDA_JOBS_ON_FM_EXIT": "1"},
    )
    assert all(getattr(config, one.name) is not None for one in fields(config))
    written = {
        line.partition("=")[0].strip(): line.partition("=")[2].strip()
        for line in SHIPPED.splitlines()
        if "=" in line
    }
    assert config.settings() == {**written, "FM_SM_MGMT_PORT_GUID": "0x" + "0" * 16}


def test_an_empty_file_has_no_settings() -> None:
    assert parse_manager_config(b"") == ManagerConfig()
    assert parse_manager_config(b"\n# nothing\n\n").settings() == {}
    assert parse_nvlsm_config(b"") == NvlsmConfig()


@given(st.dictionaries(KEY, VALUE, max_size=8))
def test_unknown_keys_are_kept(values: dict[str, str]) -> None:
    text = "".join(f"{key}={value}\n" for key, value in values.items())
    config = parse_manager_config(text.encode())
    assert config == ManagerConfig(other=values)
    assert config.settings() == values


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (parse_manager_config, parse_nvlsm_config):
        with suppress(EvidenceError):
            parse(data)


@pytest.mark.parametrize(
    "text",
    [
        "FABRIC_MODE",
        "=1",
        "1KEY=1",
        "A-B=1",
        f"{'K' * 65}=1",
        "FABRIC_MODE=one",
        "FABRIC_MODE=",
        "FABRIC_MODE=-1",
        "FABRIC_MODE=0x1",
        "FABRIC_MODE=4294967296",
        "FABRIC_MODE=1 # shared",
        "FM_SM_MGMT_PORT_GUID=port",
        "FM_SM_MGMT_PORT_GUID=0x11112222333344445",
        "STATE_FILE_NAME=/tmp/\u00e9",
        f"STATE_FILE_NAME={'x' * 513}",
        "A=\0",
        "\n".join(f"KEY_{number}=" for number in range(1025)),
        " " * (MAX_CONFIG_BYTES + 1),
    ],
)
def test_what_cannot_be_trusted_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_manager_config(text.encode())
    assert (caught.value.where or "").startswith("Fabric Manager configuration")


def test_the_longest_value_is_read() -> None:
    assert parse_manager_config(f"STATE_FILE_NAME={'x' * 512}".encode()).state_file == "x" * 512
    assert parse_manager_config(b"#" + b"x" * 99 + b"\nFABRIC_MODE=4294967295").fabric_mode == U32
    lines = "\n".join(f"KEY_{number}=" for number in range(1024))
    assert len(parse_manager_config(lines.encode()).other) == 1024


def test_the_last_of_two_values_counts_and_is_told() -> None:
    config = parse_manager_config(b"FABRIC_MODE=0\nA=1\nA=1\nFABRIC_MODE=1\n")
    assert (config.fabric_mode, config.other, config.repeated) == (1, {"A": "1"}, ("FABRIC_MODE",))


@pytest.mark.parametrize(
    ("written", "policy"),
    [("symmetric", "symmetric"), ("1", "symmetric"), ("0", "greedy"), ("2", "2"), ("", "")],
)
def test_the_rail_policy_by_name(written: str, policy: str) -> None:
    config = parse_manager_config(f"PARTITION_RAIL_POLICY={written}\n".encode())
    assert (config.rail_policy, config.policy) == (written, policy)
    assert ManagerConfig().policy is None


def test_nvlsm() -> None:
    text = (
        "# SM\nguid 0x7425540300353de9\nplugin_name grpc_mgr\nlog_flags 0x3\n"
        "plugin_options -grpc_mgr --config_file /usr/share/nvidia/nvlsm/grpc_mgr.conf\n"
        "dump_files_dir /var/log\t\nm_key\n"
    )
    config = parse_nvlsm_config(text.encode())
    options = "-grpc_mgr --config_file /usr/share/nvidia/nvlsm/grpc_mgr.conf"
    other = {"dump_files_dir": "/var/log", "m_key": ""}
    assert config == NvlsmConfig(0x7425540300353DE9, "grpc_mgr", options, "0x3", other)
    assert config.settings() == {
        "guid": "0x7425540300353de9",
        "plugin_name": "grpc_mgr",
        "plugin_options": options,
        "log_flags": "0x3",
        **other,
    }
    assert parse_nvlsm_config(b"guid 1\nguid 2").repeated == ("guid",)


@pytest.mark.parametrize("text", ["guid port", "guid", "-g 1", "{}", "guid 0x1 0x2"])
def test_what_is_no_nvlsm_configuration_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError):
        parse_nvlsm_config(text.encode())


@pytest.mark.parametrize(
    ("text", "guid"),
    [("0x0", 0), ("0X1f", 31), ("1f", 31), (" 0x1 ", 1), ("f" * 16, (1 << 64) - 1)],
)
def test_a_guid_is_hex(text: str, guid: int) -> None:
    assert parse_guid(text) == guid


@pytest.mark.parametrize("text", ["", "0x", "g", "f" * 17, "-1", "0x0x1"])
def test_what_is_no_guid(text: str) -> None:
    assert parse_guid(text) is None


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.9.1", "::1", "localhost")))
    others = ("0.0.0.0", "10.0.0.1", "::", "", "lo", "127.0.0.1.example", "128.0.0.1")
    assert not any(map(is_loopback, others))
