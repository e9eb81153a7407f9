"""Who gets in and who does not: wrong, unknown, revoked and borrowed keys, wrong roles, oversize messages; each is audited."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from opentau.errors import KeyFileError, LinkError
from robot_bridge.security.audit import BURST, Audit
from robot_bridge.security.authority import Authority
from robot_bridge.security.keys import make_pair
from robot_bridge.security.trust import Role, TrustList
from robot_bridge.wire.link import INSECURE, Plane, bind, dial, send, send_to, wait
from robot_bridge.wire.messages import Heartbeat, encode
from tests.unit.bridge.links import Events, Server

SIGN = Heartbeat(session="s")


def knock(socket: zmq.Socket[bytes]) -> None:
    """Send what may find no way any more: a refused handshake takes the way from the socket, at once or a little later."""
    with contextlib.suppress(zmq.Again):
        socket.send_multipart(encode(SIGN), zmq.DONTWAIT)


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


def test_a_trusted_key_gets_in_under_its_name_and_numbered(server):
    arm = server.trust("arm")
    for identity in ("arm", "arm-2"):
        send(server.dial(arm, identity), Plane.CONTROL, SIGN)
        assert server.receive() == identity.encode()
    assert server.events.seen == []


def test_a_key_that_nobody_trusts_is_refused_and_audited(server):
    stranger = make_pair("arm")
    knock(server.dial(stranger))
    assert server.receives_nothing_until(lambda: server.events.await_audit(who=stranger.public, why="not trusted"))


def test_who_takes_another_server_for_this_one_is_refused_and_audited(server):
    arm = server.trust("arm")
    knock(server.dial(arm, server_public=make_pair("other").public))
    assert server.receives_nothing_until(lambda: server.events.await_audit(what="handshake", why="it failed"))


def test_who_brings_no_key_is_refused_and_audited(server):
    keyless = dial(server.context, Plane.CONTROL, endpoint=server.endpoint, identity="arm")
    knock(keyless)
    assert server.receives_nothing_until(lambda: server.events.await_audit(what="handshake", why="no key"))


@pytest.mark.parametrize("identity", ["other", "arm2", "ar", "station-0-1"])
def test_an_identity_that_is_not_the_key_s_is_refused_and_audited(server, identity):
    arm = server.trust("arm")
    server.trust("other")
    send(server.dial(arm, identity), Plane.CONTROL, SIGN)
    assert server.receive() is None
    server.events.await_audit(who="arm", role="robot", why=f"calls itself '{identity}'")


@pytest.mark.parametrize("role", ["viewer", "operator", "policy"])
def test_a_role_that_has_no_business_here_is_refused_and_audited(server, role):
    send(server.dial(server.trust("desk", role)), Plane.CONTROL, SIGN)
    assert server.receive() is None
    server.events.await_audit(who="desk", role=role, why="no business here")


def test_another_role_gets_neither_a_robot_s_name_nor_what_is_sent_to_it(tmp_path):
    server = Server(tmp_path, at_the_door=frozenset({Role.ROBOT}))
    arm, screen = server.dial(server.trust("arm")), server.trust("screen", "viewer")
    send(arm, Plane.CONTROL, SIGN)
    assert server.receive() == b"arm"
    send(server.dial(screen, "arm"), Plane.CONTROL, SIGN)
    server.events.await_audit(who="screen", role="viewer", what="handshake", why="no business here")
    assert send_to(server.socket, b"arm", SIGN)
    assert wait(arm, timeout_s=5.0)
    server.close()


def test_a_key_revoked_while_its_link_is_open_is_refused_at_its_next_message(server):
    arm = server.dial(server.trust("arm"))
    send(arm, Plane.CONTROL, SIGN)
    assert server.receive() == b"arm"
    server.trusted.revoke("arm")
    send(arm, Plane.CONTROL, SIGN)
    assert server.receive() is None
    server.events.await_audit(who="arm", why="not any more")


def test_a_revoked_key_cannot_come_again(server):
    pair = server.trust("arm")
    server.trusted.revoke("arm")
    knock(server.dial(pair))
    assert server.receives_nothing_until(lambda: server.events.await_audit(who=pair.public, what="handshake"))


def test_another_key_of_the_same_name_does_not_revive_an_old_link(server):
    old = server.dial(server.trust("arm"))
    send(old, Plane.CONTROL, SIGN)
    assert server.receive() == b"arm"
    server.trusted.revoke("arm")
    server.trust("arm")
    send(old, Plane.CONTROL, SIGN)
    assert server.receive() is None


def test_a_damaged_trust_list_lets_nobody_in(server):
    pair = server.trust("arm")
    server.trusted.path.write_text("- {name: arm}\n")
    knock(server.dial(pair))
    assert server.receives_nothing_until(lambda: server.events.await_audit(what="trust list", why="damaged"))


def test_a_frame_over_the_limit_closes_its_link_before_it_is_read_and_the_server_lives_on(tmp_path):
    server = Server(tmp_path, plane=Plane.INFERENCE)
    try:
        big = server.dial(server.trust("big"))
        big.send(bytes(Plane.INFERENCE.value.max_bytes + 1000))
        send(server.dial(server.trust("arm")), Plane.INFERENCE, SIGN)
        assert server.receive() == b"arm"
        assert server.receive(timeout_s=0.1) is None
        send(big, Plane.INFERENCE, SIGN)
        assert server.receive() == b"big"
    finally:
        server.close()


def test_a_message_over_the_limit_in_many_frames_is_refused_and_audited(tmp_path):
    server = Server(tmp_path, plane=Plane.INFERENCE)
    try:
        half = np.zeros(Plane.INFERENCE.value.max_bytes // 2 + 1, np.uint8)
        server.dial(server.trust("arm")).send_multipart([half, half])
        assert server.receive() is None
        server.events.await_audit(who="arm", why="the limit is")
    finally:
        server.close()


def test_a_bind_with_keys_needs_an_authority_that_runs(tmp_path):
    context = zmq.Context()
    try:
        idle = Authority(context, pair=make_pair("server"), trusted=TrustList(tmp_path), audit=Audit(Events().emit))
        with pytest.raises(KeyFileError, match="running"):
            bind(context, Plane.CONTROL, host="127.0.0.1", authority=idle)
    finally:
        context.destroy(linger=0)


def test_a_network_is_listened_on_without_keys_only_in_full_words(tmp_path):
    context = zmq.Context()
    try:
        with pytest.raises(LinkError, match="without keys"):
            bind(context, Plane.CONTROL, host="0.0.0.0")
        with pytest.raises(LinkError, match="anyone on this network"):
            bind(context, Plane.CONTROL, host="0.0.0.0", insecure="yes")
        # The name of the loopback interface: no address, so that it needs the sentence, and yet nobody else can come.
        assert "127.0.0.1" in bind(context, Plane.CONTROL, host="lo", insecure=INSECURE)[1]
    finally:
        context.destroy(linger=0)


def test_refusals_of_one_peer_do_not_fill_the_log_nor_hide_those_of_another():
    clock, events = [0.0], Events()
    audit = Audit(events.emit, now=lambda: clock[0])
    for _ in range(1000):
        audit.refused(who="x", role="", what="handshake", why="no key")
    assert len(events.seen) == BURST
    audit.refused(who="arm", role="robot", what="message", why="no", peer="arm")
    assert events.seen[-1]["who"] == "arm"
    clock[0] += 10.0
    audit.refused(who="x", role="", what="handshake", why="no key")
    assert events.seen[-1]["num_left_out"] == 1000 - BURST


def test_a_full_disk_keeps_nobody_out_who_is_trusted_and_is_made_up_for():
    written, is_full = [], [True]

    def emit(kind, **fields):
        if is_full[0]:
            raise OSError(28, "No space left on device")
        written.append(fields)

    audit = Audit(emit)
    for _ in range(3):
        audit.refused(who="x", role="", what="handshake", why="not trusted")
    is_full[0] = False
    audit.refused(who="y", role="", what="handshake", why="not trusted")
    assert [(event["who"], event["num_left_out"]) for event in written] == [("y", 3)]
