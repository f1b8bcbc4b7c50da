"""`selectllm evaluate`: what a tuned model's answers are worth, by commands of one file each."""

from cyclopts import App

from selectllm.cli.evaluate.answers import answers
from selectllm.cli.evaluate.mt_bench import mt_bench
from selectllm.cli.evaluate.overlap import overlap

evaluate = App(name="evaluate", help="Evaluate tuned models by their answers.")
for command in (answers, overlap, mt_bench):
    evaluate.command(command)
