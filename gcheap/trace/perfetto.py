"""A timeline as Perfetto's protobuf: TracePackets with track descriptors and track events.

One sequence.  Tracks are those of threads where the thread is known, else named ones below the
process; counters are tracks too.  Timestamps are those of CLOCK_MONOTONIC_RAW, and a clock snapshot
ties it to the others.  Source: protos/perfetto/trace of the Perfetto project, by its package
`perfetto`.
"""
from __future__ import annotations

import time
from typing import IO, Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    BuiltinClock,
    CounterDescriptor,
    TracePacket,
    TrackDescriptor,
    TrackEvent,
)
from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder

from gcheap.text import printable
from gcheap.trace.timeline import COUNTERS, Timeline, edges

SEQUENCE = 1
RAW = BuiltinClock.BUILTIN_CLOCK_MONOTONIC_RAW
_CLOCKS = {RAW: time.CLOCK_MONOTONIC_RAW,
           BuiltinClock.BUILTIN_CLOCK_MONOTONIC: time.CLOCK_MONOTONIC,
           BuiltinClock.BUILTIN_CLOCK_BOOTTIME: time.CLOCK_BOOTTIME,
           BuiltinClock.BUILTIN_CLOCK_REALTIME: time.CLOCK_REALTIME}


def write(timeline: Timeline, stream: IO[bytes]) -> None:
    """Writes the file's content."""
    _Writer(timeline, StreamingTraceProtoBuilder(stream)).write()


class _Writer:
    def __init__(self, timeline: Timeline, builder: StreamingTraceProtoBuilder) -> None:
        self._timeline = timeline
        self._builder = builder
        self._uuid = 0

    def write(self) -> None:
        timeline = self._timeline
        self._clocks()
        process = self._describe()
        process.process.pid = timeline.facts["pid"]
        process.process.process_name = f"gcheap heap {timeline.facts['heap']}"
        self._put_descriptor(process)
        for track in timeline.tracks:
            self._track(track, process.uuid)
        for column, name in enumerate(COUNTERS, 1):
            counter = self._describe(name, process.uuid)
            counter.counter.unit = CounterDescriptor.UNIT_SIZE_BYTES
            self._put_descriptor(counter)
            for sample in timeline.samples:
                packet, event = self._event(sample[0], TrackEvent.TYPE_COUNTER, counter.uuid)
                event.counter_value = sample[column]
                self._builder.write_packet(packet)

    def _packet(self) -> TracePacket:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = SEQUENCE
        return packet

    def _clocks(self) -> None:
        packet = self._packet()
        packet.sequence_flags = TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        for number, clock in _CLOCKS.items():
            one = packet.clock_snapshot.clocks.add()
            one.clock_id = number
            one.timestamp = time.clock_gettime_ns(clock)
        self._builder.write_packet(packet)

    def _describe(self, name: str | None = None, parent: int | None = None) -> TrackDescriptor:
        self._uuid += 1
        descriptor = TrackDescriptor()
        descriptor.uuid = self._uuid
        if name is not None:
            descriptor.name = printable(name)
        if parent is not None:
            descriptor.parent_uuid = parent
        return descriptor

    def _put_descriptor(self, descriptor: TrackDescriptor) -> None:
        packet = self._packet()
        packet.track_descriptor.CopyFrom(descriptor)
        self._builder.write_packet(packet)

    def _track(self, track: Any, process: int) -> None:
        if track.thread:
            descriptor = self._describe(None, process)
            descriptor.thread.pid = self._timeline.facts["pid"]
            descriptor.thread.tid = track.thread
            descriptor.thread.thread_name = printable(track.name)
        else:
            descriptor = self._describe(track.name, process)
        self._put_descriptor(descriptor)
        for at, begins in edges(self._timeline.slices(track)):
            kind = TrackEvent.TYPE_SLICE_END if begins is None else TrackEvent.TYPE_SLICE_BEGIN
            packet, event = self._event(at, kind, descriptor.uuid)
            if begins is not None:
                event.name = begins[2]
                event.categories.append(track.role)
                _annotate(event, begins[3])
            self._builder.write_packet(packet)
        if track.lost:
            packet, event = self._event(self._timeline.end_ns, TrackEvent.TYPE_INSTANT,
                                        descriptor.uuid)
            event.name = f"{track.lost} events lost"
            _annotate(event, {"lost": track.lost})
            self._builder.write_packet(packet)

    def _event(self, at: int, kind: int, track: int) -> tuple[TracePacket, TrackEvent]:
        packet = self._packet()
        packet.timestamp = at
        packet.timestamp_clock_id = RAW
        packet.track_event.type = kind
        packet.track_event.track_uuid = track
        return packet, packet.track_event


def _annotate(event: TrackEvent, arguments: dict[str, Any]) -> None:
    for name, value in arguments.items():
        annotation = event.debug_annotations.add()
        annotation.name = name
        if isinstance(value, str):
            annotation.string_value = value
        else:
            annotation.uint_value = value
