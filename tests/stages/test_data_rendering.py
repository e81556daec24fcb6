from pathlib import Path

import pytest
from data_helpers import CHATML, chatml, llama_like
from rlhfc.stages.common.job import InputPath, StageError
from rlhfc.stages.common.rendering import Renderer, install_template
from rlhfc.stages.common.tokenizers import (
    filler_id,
    load_tokenizer,
    save_tokenizer,
    stop_ids,
    vocabulary_digest,
)

USER = [{"role": "user", "content": "what is the time?"}]
TALK = [*USER, {"role": "assistant", "content": "It is"}, {"role": "user", "content": "go on"}]


def renderer(tokenizer, template):
    """A renderer with ``template`` installed."""
    install_template(tokenizer, template)
    return Renderer(tokenizer)


def test_plain_text_gets_one_bos_and_no_space_at_the_seam():
    """A SentencePiece-like tokenizer puts a space before a text, and must not put one before a response."""
    tokenizer = llama_like()
    plain = renderer(tokenizer, "plain")
    for prompt, response in [
        ("Once upon", " a time there was"),
        ("Once upon a ti", "me there was"),
        ("Once upon ", "a time"),
        ("Once", "upon"),
        ("The cat.\n", "\nThe mat"),
    ]:
        messages = [{"role": "user", "content": prompt}]
        before, after = plain.render_prompt(messages), plain.render_response(messages, response)
        assert tokenizer(prompt)["input_ids"] == before
        assert (1, 1) == (before.count(1), after.count(2))
        assert prompt + response == tokenizer.decode(before + after, skip_special_tokens=True)


def test_a_bos_that_is_written_out_is_not_doubled():
    """Exactly one begin-of-sequence token, whether the text has none, one or two."""
    tokenizer = llama_like()
    plain = renderer(tokenizer, "plain")
    expected = tokenizer("the cat")["input_ids"]
    for prompt in ("the cat", "<s>the cat", "<s><s>the cat"):
        assert expected == plain.render_prompt([{"role": "user", "content": prompt}])


def test_human_assistant_is_the_form_of_upstream():
    """Turns begin with two newlines and the speaker; a response begins with one space."""
    tokenizer = llama_like()
    upstream = renderer(tokenizer, "human_assistant")
    prompt = "\n\nHuman: what is the time?\n\nAssistant: It is\n\nHuman: go on\n\nAssistant:"
    assert "<s>" + prompt == upstream.prompt_text(TALK)
    assert " the cat</s>" == upstream.response_text(TALK, " the cat ")
    ids = upstream.render_prompt(TALK) + upstream.render_response(TALK, "the cat")
    assert tokenizer(prompt + " the cat")["input_ids"] + [2] == ids


def test_end_of_turn_that_is_eos_is_not_doubled_and_nothing_follows_it():
    """ChatML: the turn ends in `<|im_end|>`, which is the eos token; the newline after it is dropped."""
    tokenizer = chatml()
    chat = renderer(tokenizer, "auto")
    assert "It is<|im_end|>" == chat.response_text(USER, "It is")
    response = chat.render_response(USER, "It is")
    assert [tokenizer.eos_token_id] == [token for token in response if token == tokenizer.eos_token_id]
    assert tokenizer.eos_token_id == response[-1]
    assert tokenizer.bos_token_id is None


def test_prompt_and_response_are_what_the_template_gives():
    """Prompt ids and response ids together are the template's ids for the whole conversation."""
    for tokenizer, template in [
        (chatml(), "auto"),
        (llama_like(), "human_assistant"),
        (llama_like(), CHATML),
    ]:
        chat = renderer(tokenizer, template)
        prompt = tokenizer.apply_chat_template(TALK, add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(
            [*TALK, {"role": "assistant", "content": "the cat"}], return_dict=False
        )
        ids = chat.render_prompt(TALK) + chat.render_response(TALK, "the cat")
        assert prompt == chat.render_prompt(TALK)
        assert (ids[:-1], tokenizer.eos_token_id) == (whole[: len(ids) - 1], ids[-1])


def test_template_without_bos_gets_one_where_the_tokenizer_wants_it():
    """Other programs that apply the stored template then get the ids that were trained on."""
    tokenizer = llama_like()
    chat = renderer(tokenizer, CHATML)
    assert "{{ bos_token }}" + CHATML == tokenizer.chat_template
    assert [1] == [token for token in chat.render_prompt(USER) if token == 1]


def test_template_that_frames_the_last_answer_otherwise():
    """Where prompt and conversation differ at the seam, the response follows the prompt."""
    template = (
        "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] }}"
        "{% if m['role'] == 'assistant' %}{{ '<|im_end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[assistant]<think></think>' }}{% endif %}"
    )
    chat = renderer(chatml(), template)
    assert "[user]what is the time?[assistant]<think></think>" == chat.prompt_text(USER)
    assert "It is<|im_end|>" == chat.response_text(USER, "It is")


def test_rendering_many_rows_equals_rendering_each():
    """Batched rendering gives the same ids as one row at a time."""
    chat = renderer(llama_like(), "human_assistant")
    answers = [["the cat", "no"], ["sat"], []]
    expected = [
        [chat.render_prompt(messages), *(chat.render_response(messages, text) for text in row)]
        for messages, row in zip([USER, TALK, USER], answers, strict=True)
    ]
    assert expected == chat.render([USER, TALK, USER], answers)


def test_template_that_prints_the_day_gives_the_same_text_every_day():
    """`strftime_now` is frozen: tokenised data must not depend on when it was made."""
    chat = renderer(chatml(), "{{ strftime_now('%d %b %Y') }}{{ messages[-1]['content'] }}")
    assert "26 Jul 2024what is the time?" == chat.prompt_text(USER)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("human", "`template: human` is no template"),
        (
            "{{ raise_exception('system role not supported') }}",
            "the chat template refuses a conversation of the roles user: system role not supported",
        ),
    ],
)
def test_a_template_that_cannot_serve_is_the_users_error(template, message):
    """Unknown names and templates that raise end the stage with a hint."""
    with pytest.raises(StageError) as caught:
        install_template(chatml(), template)
    assert message == str(caught.value)
    assert caught.value.hint


def test_saved_tokenizer_is_complete_and_the_same_wherever_it_came_from(tmp_path: Path):
    """Saving, loading from another folder and saving again gives the same files and digest."""
    tokenizer = llama_like()
    install_template(tokenizer, "human_assistant")
    save_tokenizer(tokenizer, tmp_path / "a")
    loaded = load_tokenizer(InputPath(tmp_path / "a"))
    save_tokenizer(loaded, tmp_path / "elsewhere" / "b")
    again = load_tokenizer(InputPath(tmp_path / "elsewhere" / "b"))
    save_tokenizer(again, tmp_path / "c")
    files = {path.name: path.read_bytes() for path in (tmp_path / "elsewhere" / "b").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} == set(files)
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    assert str(tmp_path).encode() not in b"".join(files.values())
    assert vocabulary_digest(tokenizer) == vocabulary_digest(again)
    assert Renderer(tokenizer).render_prompt(TALK) == Renderer(again).render_prompt(TALK)


def test_vocabulary_digest_tells_tokenizers_apart():
    """One more token, or another end-of-sequence token, is another vocabulary."""
    more, other = llama_like(), llama_like()
    more.add_tokens(["new"])
    other.eos_token = "<s>"
    assert 3 == len({vocabulary_digest(tokenizer) for tokenizer in (llama_like(), more, other)})
    assert vocabulary_digest(llama_like()) == vocabulary_digest(llama_like())


def test_filler_and_stop_ids():
    """The filler is pad, else eos; stop ids are eos and the extra ones, sorted, inside the vocabulary."""
    tokenizer = llama_like()
    assert (2, [1, 2]) == (filler_id(tokenizer), stop_ids(tokenizer, [1, 2, 1]))
    tokenizer.pad_token = "<unk>"
    assert 0 == filler_id(tokenizer)
    with pytest.raises(StageError, match=f"stop token {len(tokenizer)} is not in the vocabulary"):
        stop_ids(tokenizer, [len(tokenizer)])


def test_a_folder_without_tokenizer_is_the_users_error(tmp_path: Path):
    """The message names the folder."""
    with pytest.raises(StageError, match=f"no tokenizer can be loaded from `{tmp_path}`"):
        load_tokenizer(InputPath(tmp_path))


def test_a_tokenizer_without_eos_is_refused(tmp_path: Path):
    """A response must be able to end."""
    tokenizer = llama_like()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(StageError, match="has no end-of-sequence token"):
        load_tokenizer(InputPath(tmp_path))


def _talk(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]


@pytest.mark.parametrize(
    ("make", "template", "ends"),
    [(chatml, "auto", "<|im_end|>"), (llama_like, "human_assistant", ""), (chatml, "human_assistant", "")],
)
def test_earlier_answers_are_found_in_the_prompt(make, template, ends):
    """Each answer of a conversation, with the end of its turn where the template shows one, and no more."""
    tokenizer = make()
    install_template(tokenizer, template)
    renderer = Renderer(tokenizer)
    talk = _talk("hi", "yes", "why", "so it is", "what is the time?")
    prompt = renderer.render_prompt(talk)
    bounds = renderer.earlier_answers(talk, prompt)
    found = [
        tokenizer.decode(prompt[start:end]).strip()
        for start, end in zip(bounds[::2], bounds[1::2], strict=True)
    ]
    assert [f"yes{ends}", f"so it is{ends}"] == found
    assert [] == renderer.earlier_answers(talk[:1], renderer.render_prompt(talk[:1]))


def test_answer_that_the_template_hides_later_is_left_out():
    """What a template shows otherwise once the conversation has gone on was never said so."""
    tokenizer = chatml()
    hidden = "{{ m['content'] if loop.last else 'gone' }}"
    install_template(
        tokenizer,
        "{% for m in messages %}{{ m['role'] }}:{% if m['role'] == 'assistant' %}" + hidden + "{% else %}"
        "{{ m['content'] }}{% endif %};{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
    )
    talk = _talk("hi", "yes", "why")
    renderer = Renderer(tokenizer)
    assert [] == renderer.earlier_answers(talk, renderer.render_prompt(talk))


@pytest.mark.parametrize("before", [[], [{"role": "system", "content": "Be brief."}]])
def test_greeting_that_answers_nobody(before):
    """A conversation may begin with the assistant, although the template cannot render what comes before."""
    tokenizer = chatml()
    install_template(
        tokenizer,
        "{% if not messages | selectattr('role', 'equalto', 'user') | list %}"
        "{{ raise_exception('nobody asks') }}{% endif %}" + CHATML,
    )
    talk = [*before, {"role": "assistant", "content": "hello"}, *_talk("hi", "yes", "why")]
    renderer = Renderer(tokenizer)
    prompt = renderer.render_prompt(talk)
    start, end = renderer.earlier_answers(talk, prompt)
    assert "yes<|im_end|>" == tokenizer.decode(prompt[start:end])
