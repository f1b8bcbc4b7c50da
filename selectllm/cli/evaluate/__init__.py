"""`selectllm evaluate`: what a tuned model's answers are worth, by commands of one file each."""

from cyclopts import App

from selectllm.cli.evaluate.answers import answers

evaluate = App(name="evaluate", help="Evaluate tuned models by their answers.")
for command in (answers,):
    evaluate.command(command)
