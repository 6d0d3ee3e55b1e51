"""Tiny texts, for tests."""


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def decoded(text, part, between):
    return between.join(text.vocabulary[number] for number in text.parts[part])


LINES = {
    "train": " = Title = \n\n the cat saw the <unk> \n",
    "valid": " the dog \n",
    "test": " cat\n",
}


def wikitext(folder, lines=LINES):
    return [written(folder / f"wiki.{part}.tokens", text) for part, text in lines.items()]
