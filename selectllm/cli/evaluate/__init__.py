"""`selectllm evaluate`: how good models, answers and judges are, one command a file."""

from cyclopts import App

from selectllm.cli.evaluate.alpaca_eval import alpaca_eval
from selectllm.cli.evaluate.judge_agreement import judge_agreement

evaluate = App(name="evaluate", help="Evaluate models by their answers, and the judges that compare them.")
evaluate.command(alpaca_eval)
evaluate.command(judge_agreement)
