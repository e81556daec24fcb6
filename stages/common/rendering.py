"""The one way from messages to token ids, for SFT, reward model, PPO, evaluation and export.

The template lives in the tokenizer as its ``chat_template``; :func:`install_template` puts it there
once, in ``data_split``, and every later stage takes it from the tokenizer that came with its data.
Then ``prompt ids + response ids`` is what the template gives for the whole conversation, the prompt
begins with exactly one begin-of-sequence token if the tokenizer wants one, and the response ends in
exactly one end-of-sequence token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jinja2
from transformers import PreTrainedTokenizerBase

from .job import StageError
from .tokenizers import wants_bos

Messages = Sequence[Mapping[str, str]]

_PLAIN = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if loop.last and message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
_HUMAN_ASSISTANT = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\\n\\nHuman: ' + message['content'] | trim }}"
    "{% elif message['role'] == 'assistant' %}{{ '\\n\\nAssistant: ' + message['content'] | trim }}"
    "{% if loop.last %}{{ eos_token }}{% endif %}"
    "{% else %}{{ message['content'] | trim }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"
)
_BUILT_IN = {"plain": _PLAIN, "human_assistant": _HUMAN_ASSISTANT}
_WITH_BOS = "{{ bos_token }}"
# Texts to put before a response that is tokenised alone: a tokenizer that starts every text with a
# space then starts the anchor with it, not the response. The first that leaves the seam alone serves.
_ANCHORS = ("\n", ".", "x", "(")
# A template that prints the day would give other bytes tomorrow: it gets this one, whatever the form.
_FROZEN_DAY = "{% macro strftime_now(form) %}26 Jul 2024{% endmacro %}"


def template_text(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """Jinja text of ``template``: ``auto``, ``plain``, ``human_assistant``, or Jinja itself.

    Raises:
        StageError: it is neither a known name nor a Jinja template.
    """
    if template == "auto":
        own = tokenizer.get_chat_template() if tokenizer.chat_template else None
        return own or _HUMAN_ASSISTANT
    if template in _BUILT_IN:
        return _BUILT_IN[template]
    if "{" not in template:
        raise StageError(
            f"`template: {template}` is no template",
            f"write `auto`, `{'`, `'.join(_BUILT_IN)}`, or a Jinja chat template",
        )
    return template


def install_template(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """Make ``template`` the tokenizer's chat template.

    It is given a begin-of-sequence token where the tokenizer wants one and the template has none, so
    that other programs that apply the template get the same ids.

    Raises:
        StageError: it is neither a known name nor a template that renders a conversation.
    """
    tokenizer.chat_template = template_text(tokenizer, template)
    if wants_bos(tokenizer):
        text = Renderer(tokenizer).prompt_text([{"role": "user", "content": "a"}])
        if not text.startswith(tokenizer.bos_token):
            tokenizer.chat_template = _WITH_BOS + tokenizer.chat_template
    Renderer(tokenizer).render([[{"role": "user", "content": "a"}]], [["b"]])


class Renderer:
    """Renders prompts and responses with the chat template of ``tokenizer``.

    Raises:
        StageError: the tokenizer has no chat template; later, the template refuses a conversation.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise StageError(
                "the tokenizer that came with the data has no chat template",
                "run `data_split` again: it stores the template",
            )
        self.tokenizer = tokenizer
        template = tokenizer.get_chat_template()
        self._template = _FROZEN_DAY + template if "strftime_now" in template else template
        self._eos = int(tokenizer.eos_token_id)
        self._wants_bos = wants_bos(tokenizer)
        self._anchors = [(text, self._encode([text])[0]) for text in _ANCHORS]

    def prompt_text(self, messages: Messages) -> str:
        """Text that a response to ``messages`` follows."""
        return self._apply(messages, add_generation_prompt=True)

    def response_text(self, messages: Messages, response: str) -> str:
        """Text after the prompt's: the response as the template frames it, up to the end of its turn."""
        prompt = self.prompt_text(messages)
        turn = {"role": "assistant", "content": response}
        whole = self._apply([*messages, turn], add_generation_prompt=False)
        if whole.startswith(prompt):
            text = whole[len(prompt) :]
        else:
            # The template frames a past answer otherwise than the one to come (a thinking block, say).
            # What is generated follows the prompt, so the response does too, with the turn's own end.
            start = whole.rfind(response.strip())
            text = response + whole[start + len(response.strip()) :] if start >= 0 else response
        ended = text.rstrip()
        return ended if ended.endswith(self.tokenizer.eos_token) else text

    def render_prompt(self, messages: Messages) -> list[int]:
        """Ids of the prompt, begin-of-sequence token included."""
        return self.render([messages], [[]])[0][0]

    def render_response(self, messages: Messages, response: str) -> list[int]:
        """Ids of the response, ending in exactly one end-of-sequence token."""
        return self.render([messages], [[response]])[0][1]

    def render(
        self, conversations: Sequence[Messages], responses: Sequence[Sequence[str]]
    ) -> list[list[list[int]]]:
        """Ids of many rows at once: for each, the prompt's, then those of each of its responses.

        ``responses[i]`` are the answers to ``conversations[i]``: none, one, or chosen and rejected.
        """
        prompts = [self.prompt_text(messages) for messages in conversations]
        answers = [
            [self.response_text(messages, response) for response in row]
            for messages, row in zip(conversations, responses, strict=True)
        ]
        prompt_ids = self._encode(prompts)
        wholes = self._encode(
            [prompt + text for prompt, row in zip(prompts, answers, strict=True) for text in row]
        )
        at = iter(wholes)
        return [
            [self._begun(ids), *(self._ended(self._after(ids, next(at), text)) for text in row)]
            for ids, row in zip(prompt_ids, answers, strict=True)
        ]

    def earlier_answers(self, messages: Messages, prompt_ids: Sequence[int]) -> list[int]:
        """Where in the prompt's ids the answers are that it holds: pairs of start and end.

        An answer is what follows the prompt that it was given to, up to the end of its turn. One that the
        template shows otherwise once the conversation has gone on is left out: it was never said so.
        So are tokens that only in part belong to an answer, and what is said before anybody has asked.
        """
        roles = [message["role"] for message in messages]
        turns = [at for at, role in enumerate(roles) if role == "assistant" and "user" in roles[:at]]
        if not turns:
            return []
        prompt = self.prompt_text(messages)
        encoded = self.tokenizer(prompt, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
        shift = len(prompt_ids) - len(encoded["input_ids"])
        bounds = []
        for at in turns:
            start, end = self._answer_in(prompt, messages[:at], messages[at])
            within = [n for n, (a, b) in enumerate(encoded["offset_mapping"]) if start <= a < b <= end]
            if within:
                bounds += [within[0] + shift, within[-1] + 1 + shift]
        return bounds

    def _answer_in(self, prompt: str, before: Messages, answer: Mapping[str, str]) -> tuple[int, int]:
        """First and last position of an answer in the prompt's text; equal where it is not there."""
        asked = self.prompt_text(before)
        said = asked + self.response_text(before, answer["content"]).rstrip()
        # Some templates end only the last turn with the end-of-sequence token.
        for text in (said, said.removesuffix(self.tokenizer.eos_token)):
            if prompt.startswith(text):
                return len(asked), len(text)
        return 0, 0

    def _apply(self, messages: Messages, add_generation_prompt: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                chat_template=self._template,
            )
        except (jinja2.TemplateError, TypeError, KeyError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise StageError(
                f"the chat template refuses a conversation of the roles {roles}: {error}",
                "map other columns, or set `template`",
            ) from error
        assert isinstance(text, str)
        return text

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        return list(self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"])

    def _begun(self, ids: list[int]) -> list[int]:
        """``ids`` with one begin-of-sequence token in front if the tokenizer wants one."""
        bos = self.tokenizer.bos_token_id
        if bos is None or not (ids[:1] == [bos] or self._wants_bos):
            return ids
        start = next((index for index, token in enumerate(ids) if token != bos), len(ids))
        return [bos, *ids[start:]]

    def _ended(self, ids: list[int]) -> list[int]:
        while ids and ids[-1] == self._eos:
            ids = ids[:-1]
        return [*ids, self._eos]

    def _after(self, prompt: list[int], whole: list[int], text: str) -> list[int]:
        """Ids of ``text`` as they follow the prompt.

        Where a token spans the seam between the two, the prompt keeps its own ids, as it will when a
        response is generated, and the text is tokenised alone, but not as the start of a text.
        """
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        for anchor, ids in self._anchors:
            anchored = self._encode([anchor + text])[0]
            if anchored[: len(ids)] == ids:
                return anchored[len(ids) :]
        return self._encode([text])[0]
