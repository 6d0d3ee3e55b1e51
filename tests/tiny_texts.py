"""Tiny texts, for tests."""


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def decoded(text, split, between):
    return between.join(text.vocabulary[number] for number in text.splits[split])


LINES = {
    "train": " = Title = \n\n the cat saw the <unk> \n",
    "valid": " the dog \n",
    "test": " cat\n",
}


def wikitext(folder, lines=LINES):
    return [written(folder / f"wiki.{split}.tokens", text) for split, text in lines.items()]
