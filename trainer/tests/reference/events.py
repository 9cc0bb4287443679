"""Writes goldens/events.tfevents with TensorBoard's own messages and writer, and reads it back with its reader.

    pip install -r requirements-metrics.txt
    python events.py ../goldens/events.tfevents          writes and checks the golden
    python events.py FOLDER                              shows what TensorBoard reads in a run's folder
"""
import os
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

TIME = 1_700_000_000.5


def write(path):
    value = Summary.Value
    text = TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
                       string_val=["an owl on sand, “猫”".encode()])
    plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    image = Summary.Image(height=3, width=2, colorspace=3, encoded_image_string=b"\x89PNG\x00\xc8")
    summaries = [
        (7, [value(tag="loss/lm", simple_value=0.25), value(tag="pairs-per-second", simple_value=-1.5e9)]),
        (300, [value(tag="caption", tensor=text, metadata=plugin)]), (7, [value(tag="scene", image=image)]),
    ]
    events = [Event(wall_time=TIME, file_version="brain.Event:2"),
              Event(wall_time=TIME, step=7, session_log=SessionLog(status=SessionLog.START))]
    events += [Event(wall_time=TIME, step=step, summary=Summary(value=values)) for step, values in summaries]
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString(deterministic=True))


def show(path):
    read = EventAccumulator(path, size_guidance={"scalars": 0, "tensors": 0, "images": 0})
    read.Reload()
    for tag in read.Tags()["scalars"]:
        print(tag, [(event.step, event.value) for event in read.Scalars(tag)])
    for tag in read.Tags()["tensors"]:
        print(tag, [(event.step, event.tensor_proto.string_val[0].decode()) for event in read.Tensors(tag)])
    for tag in read.Tags()["images"]:
        print(tag, [(event.step, event.width, event.height) for event in read.Images(tag)])


if not os.path.isdir(sys.argv[1]):
    write(sys.argv[1])
show(sys.argv[1])
