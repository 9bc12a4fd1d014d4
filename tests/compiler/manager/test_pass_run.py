"""What the records of passes tell: sizes, times, changes."""

from dataclasses import replace

from graphpress.analysis.cost import model_cost
from graphpress.analysis.model_size import ModelSize, model_size
from graphpress.analysis.shapes import concrete_shapes, infer_shapes
from graphpress.ir import Editor
from graphpress.manager.contract import Outcome


def size_of(record):
    return ModelSize(record.nodes, record.parameters, record.bytes, record.macs)


def test_records_tell_how_large_the_model_is_after_each_pass(run, passes, network):
    infer_shapes(network)

    class Cut(passes.Shrink):
        name = "cut"

        def run(self, model, context):
            relu = next(node for node in model.graph if node.op_type == "Relu")
            edit = Editor(model)
            edit.replace(relu.outputs[0], relu.inputs[0])
            edit.remove(relu)
            return Outcome(1)

    before, after, unchanged, refused = run(passes.Harmless(), Cut(), passes.Harmless(), passes.Hungry()).records()
    assert size_of(before) == model_size(network, concrete_shapes(network))
    assert before.macs == model_cost(network).macs
    assert after.nodes == unchanged.nodes == before.nodes - 1
    assert size_of(unchanged) == size_of(after)
    assert (refused.nodes, refused.macs, refused.parameters, refused.bytes) == (None,) * 4


def test_lossless_passes_are_counted_once_in_the_result_of_their_stage(run, passes, network, monkeypatch):
    infer_shapes(network)

    class Cut(passes.Harmless):
        name = "cut"
        op_type = "Relu"

        def run(self, model, context):
            nodes = [node for node in model.graph if node.op_type == self.op_type]
            for node in nodes[:1] if len(model.graph) > len(network.graph) - 2 else ():
                edit = Editor(model)
                edit.replace(node.outputs[0], node.inputs[0])
                edit.remove(node)
                return Outcome(1)
            return Outcome()

    class CutBatchNorm(Cut):
        name = "cut_batch_norm"
        op_type = "BatchNormalization"

    counted = []

    def counting(*arguments):
        counted.append(arguments)
        return model_size(*arguments)

    monkeypatch.setattr("graphpress.manager.pass_run.model_size", counting)
    done = run(Cut(), CutBatchNorm(), verification="none")
    assert not counted
    first, second = done.records()
    result = done.checkpoints[-1].model
    assert len(counted) == 1
    assert size_of(second) == model_size(result, concrete_shapes(result))
    assert size_of(first) == replace(size_of(second), nodes=second.nodes + 1)
    assert second.parameters < model_size(network, concrete_shapes(network)).parameters


def test_what_is_rolled_back_leaves_no_trace_in_the_sizes(run, passes, evaluator, network):
    done = run(passes.Shrink(), passes.Harmless(), evaluator=evaluator).records()
    assert size_of(done[1]) == model_size(network, concrete_shapes(network))


def test_records_tell_time_changes_and_nodes(run, passes, network):
    record = run(passes.Shrink(factor=0.25)).records()[0]
    assert record.options == {"factor": 0.25}
    assert record.changes == 1
    assert record.nodes == len(network.graph)
    assert record.seconds > 0
    assert "shrunk" in record.notes
