"""The server's end of spooled episodes: pieces put together within bounds, checked whole, acknowledged once safe."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from opentau.errors import LinkError
from opentau.rollout.schedule import PlanQueue
from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.messages import EpisodeMeta, Payload, Shard, ShardAck, Upload, UploadAck, decode
from robot_bridge.wire.payloads import PlayedEpisode, played_from
from robot_bridge.wire.spool import MAX_EPISODE_BYTES, unpacked

CREDIT_BYTES = 8 << 20
"""What a station may send before it hears from the server."""
MAX_TRANSFERS = 4
"""Episodes that are put together at a time; other stations wait."""


@dataclass(slots=True)
class _Transfer:
    meta: EpisodeMeta
    data: bytearray = field(default_factory=bytearray)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)


class Intake:
    """Put spooled episodes together. An answer is for the station that asked; a finished one comes out of `take`."""

    def __init__(self, *, session: str) -> None:
        self._session = session
        self._transfers: dict[str, _Transfer] = {}
        self._unsafe: dict[str, tuple[str, EpisodeMeta]] = {}
        """Episodes that were taken in and are not on the disk yet: episode id to station and what it announced."""
        self._safe: set[str] = set()

    def offer(self, station_id: str, meta: EpisodeMeta, plans: PlanQueue) -> ShardAck | UploadAck:
        """Answer a station that announces an episode, or asks how much of it is here."""
        waiting = self._unsafe.get(meta.episode_id)
        if waiting is not None and waiting[1].sha256 == meta.sha256:
            self._unsafe[meta.episode_id] = (station_id, meta)
            return self._ack(meta, meta.num_bytes)
        if meta.episode_id in self._safe or plans.is_finished(meta.episode_id):
            return UploadAck(session=self._session, episode_id=meta.episode_id)
        if meta.num_bytes > MAX_EPISODE_BYTES:
            return self._ack(meta, 0, refusal=f"it has {meta.num_bytes} bytes; the limit is {MAX_EPISODE_BYTES}")
        transfer = self._transfers.get(station_id)
        if transfer is not None and transfer.meta.sha256 == meta.sha256:
            return self._ack(meta, len(transfer.data))
        is_full = transfer is None and len(self._transfers) >= MAX_TRANSFERS
        if is_full or not plans.is_expected(meta.episode_id):
            return self._ack(meta, 0, credit=0)
        self._transfers[station_id] = _Transfer(meta)
        return self._ack(meta, 0)

    def add(self, station_id: str, shard: Shard, arrays: Mapping[str, Payload]) -> ShardAck | None:
        """Append a piece; one that does not follow what is here is ignored, for its station asks again where to go on."""
        transfer = self._transfers.get(station_id)
        data = arrays.get("data")
        if data is None or isinstance(data, CodedImage) or data.dtype != "uint8" or data.ndim != 1:
            raise LinkError(f"a piece of episode {shard.episode_id} brings no bytes as its array 'data'")
        if transfer is None or transfer.meta.sha256 != shard.sha256 or shard.offset != len(transfer.data):
            return None
        if len(transfer.data) + len(data) > transfer.meta.num_bytes:
            del self._transfers[station_id]
            return self._ack(transfer.meta, 0, refusal=f"it brings more than the {transfer.meta.num_bytes} bytes announced")
        transfer.data += data.data
        transfer.digest.update(data.data)
        return self._ack(transfer.meta, len(transfer.data))

    def take(self, station_id: str) -> PlayedEpisode | ShardAck | None:
        """Return the station's episode once it is whole, or why it is refused; None while it is not whole."""
        transfer = self._transfers.get(station_id)
        if transfer is None or len(transfer.data) < transfer.meta.num_bytes:
            return None
        del self._transfers[station_id]
        meta = transfer.meta
        try:
            if transfer.digest.hexdigest() != meta.sha256:
                raise LinkError("its content is not what was announced")
            message, arrays = decode(unpacked(memoryview(transfer.data)), max_bytes=MAX_EPISODE_BYTES)
            if not isinstance(message, Upload) or message.result.plan.episode_id != meta.episode_id:
                raise LinkError(f"it is no episode {meta.episode_id}")
            played = played_from(message, arrays)
        except LinkError as error:
            return self._ack(meta, 0, refusal=str(error)[:1_000])
        self._unsafe[meta.episode_id] = (station_id, meta)
        return played

    def confirm(self, episode_id: str) -> tuple[str, UploadAck] | None:
        """Note that an episode is safe; return whom to tell, if it came from a spool."""
        self._safe.add(episode_id)
        station_id, _ = self._unsafe.pop(episode_id, ("", None))
        return (station_id, UploadAck(session=self._session, episode_id=episode_id)) if station_id else None

    def forget(self, station_id: str) -> None:
        """Drop what a departed station left unfinished."""
        self._transfers.pop(station_id, None)

    def _ack(self, meta: EpisodeMeta, offset: int, *, credit: int = CREDIT_BYTES, refusal: str = "") -> ShardAck:
        return ShardAck(
            session=self._session,
            episode_id=meta.episode_id,
            sha256=meta.sha256,
            offset=offset,
            credit=credit,
            refusal=refusal,
        )
