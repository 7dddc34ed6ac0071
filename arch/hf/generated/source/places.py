"""Where tokens are, for what looks at positions outside the standard masks."""

from typing import NamedTuple

import torch


class Places(NamedTuple):
    """Positions of the tokens [B, T] and of all keys [B, S]; their documents, 0 for padding."""

    query: torch.Tensor
    key: torch.Tensor
    query_document: torch.Tensor
    key_document: torch.Tensor

    @property
    def same(self):
        """Which pairs are of one document [B, T, S]."""
        return (self.query_document[:, :, None] == self.key_document[:, None, :]) & (self.key_document[:, None, :] > 0)


def find_places(rows, position_ids, attention_mask, seen):
    """The places of `position_ids` [1 or B, T] behind `seen` tokens. Without a mask and a cache, positions that do not
    go on begin another document."""
    length = position_ids.shape[1]
    position_ids = position_ids.expand(rows, -1)
    if attention_mask is not None:
        document = attention_mask.long()
        key = position_ids if seen == 0 else (document.cumsum(-1) - 1).clamp(min=0)
        return Places(position_ids, key, document[:, -length:], document)
    if seen == 0:
        jumps = (position_ids[:, 1:] != position_ids[:, :-1] + 1).long()
        document = 1 + torch.nn.functional.pad(jumps.cumsum(-1), (1, 0))
        return Places(position_ids, position_ids, document, document)
    key = torch.arange(seen + length, device=position_ids.device).expand(rows, -1)
    document = torch.ones_like(key)
    return Places(position_ids, key, document[:, -length:], document)
