"""Qwen2-VL checkpoints, above all Migician, for grounding and chat."""

from __future__ import annotations

from migician.chat.grounding import Chat, Grounding, ground
from migician.models.engines.qwen2_vl import Qwen2VL
from migician.models.pictures import ImageInputs


class Migician(Qwen2VL):
    """A Qwen2-VL or Qwen2.5-VL checkpoint that grounds, chats and answers benchmark questions.

    >>> model = Migician.from_pretrained("Michael4933/Migician")   # doctest: +SKIP
    >>> found = model.ground(["a.jpg", "b.jpg"], "Find the dog of Image-1 in Image-2.")   # doctest: +SKIP
    >>> found.boxes[0].image, found.boxes[0].pixels   # doctest: +SKIP
    (1, (202, 28, 489, 480))
    >>> found.picture   # doctest: +SKIP
    """

    def ground(self, images: ImageInputs, query: str, *, max_new_tokens: int = 128) -> Grounding:
        """Find what `query` describes: boxes with their images, the reply, a picture; see `grounding.ground`."""
        return ground(self, images, query, max_new_tokens=max_new_tokens)

    def chat(self, images: ImageInputs = ()) -> Chat:
        """A conversation about `images`: `chat.say("...")` returns what `ground` does, and remembers; see `Chat`."""
        return Chat(self, images)
