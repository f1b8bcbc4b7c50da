"""`selectllm evaluate`: how good models, their answers and judges are, by commands of one file each."""

from cyclopts import App

from selectllm.cli.evaluate.alpaca_eval import alpaca_eval
from selectllm.cli.evaluate.answers import answers
from selectllm.cli.evaluate.judge_agreement import judge_agreement
from selectllm.cli.evaluate.mt_bench import mt_bench
from selectllm.cli.evaluate.overlap import overlap

evaluate = App(name="evaluate", help="Evaluate tuned models by their answers, and the judges that compare them.")
for command in (answers, overlap, alpaca_eval, mt_bench, judge_agreement):
    evaluate.command(command)
