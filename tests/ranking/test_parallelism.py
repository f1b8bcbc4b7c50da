import asyncio

import pytest

from selectllm.errors import ModelError
from selectllm.llm.hosts import HostPool
from selectllm.llm.model import Reply, Request
from selectllm.ranking.parallelism import MOST_AT_ONCE, measure
from selectllm.settings import RankingSettings
from tests.conftest import FakeModel, by_id


class Failing(FakeModel):
    """Fails with its second question, and is slow to answer all others."""

    cancelled = 0

    async def answer(self, request: Request) -> Reply:
        self.asked.append(request)
        if len(self.asked) == 2:
            raise ModelError("gone")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Reply(by_id(request), "stop")


@pytest.mark.asyncio
async def test_a_question_that_fails_ends_the_others() -> None:
    model = Failing(by_id)
    hosts = HostPool([model], RankingSettings(concurrency=MOST_AT_ONCE), model.info)
    with pytest.raises(ModelError, match="gone"):
        await asyncio.wait_for(measure(hosts), 5)
    assert model.cancelled == len(model.asked) - 1, "nothing is asked any more once the measurement has ended"
