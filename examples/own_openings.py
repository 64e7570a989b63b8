"""Openings that a language model writes itself, one a line: prompts for ``stratagem fit data=self``.

python examples/own_openings.py path/to/lm 2000 16 > openings.txt
stratagem fit lm=path/to/lm data=self path=openings.txt inference=led conditioning=residual optim.lr.conditioning=0.01
"""

import sys

import torch
from stratagem.models import collate, load_backbone
from stratagem.models.program import law_of_backbone
from stratagem.models.text import decode, encode


def openings(lm: str, number: int, tokens: int, seed: int = 0) -> list[str]:
    """Different texts of ``tokens`` tokens, drawn from a language model from its begin token on.

    Raises:
        ValueError: a model without a begin token, or one that has no new text in 200 draws.
    """
    backbone = load_backbone(lm)
    torch.manual_seed(seed)
    batch = collate([encode(backbone, "")] * 200, backbone.pad_id).without_response(tokens)
    found: dict[str, None] = {}
    while (before := len(found)) < number:
        for row in law_of_backbone(backbone, batch).sample().tolist():
            text = decode(backbone, row).strip()
            if "\n" not in text and not set(row) & set(backbone.eos_ids):
                found[text] = None
        if len(found) == before:
            raise ValueError(
                f"{before} different openings of {tokens} tokens and no more; ask for fewer, or longer ones"
            )
    return list(found)[:number]


if __name__ == "__main__":
    print("\n".join(openings(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
