"""What Codebook Features (arXiv 2310.17230) published, by arms and by topics of steering."""

PAPER = (
    {"arm": "no codebook", "loss": 1.179, "token accuracy": 46.36, "state accuracy": 96.77},
    {"arm": "attention, k=1, 2k codes", "loss": 1.18, "token accuracy": 46.33, "state accuracy": 96.39},
    {"arm": "both, k=1, 10k codes", "loss": 1.269, "token accuracy": 45.27, "state accuracy": 63.65},
    {"arm": "both, k=1, 20k codes", "loss": 1.254, "token accuracy": 45.56, "state accuracy": 63.81},
    {"arm": "both, k=4, 20k codes", "loss": 1.192, "token accuracy": 46.20, "state accuracy": 80.69},
    {"arm": "both, k=16, 20k codes", "loss": 1.183, "token accuracy": 46.32, "state accuracy": 91.53},
    {"arm": "both, k=128, 20k codes", "loss": 1.178, "token accuracy": 46.38, "state accuracy": 95.82},
)
"""State machine: nats a token, and per cent."""

WIKITEXT = (
    {"arm": "410M, finetuned", "loss": 2.41, "token accuracy": 50.52},
    {"arm": "160M, finetuned", "loss": 2.72, "token accuracy": 46.75},
    {"arm": "attention, k=8", "loss": 2.74, "token accuracy": 46.68},
    {"arm": "attention, k=64", "loss": 2.55, "token accuracy": 48.44},
    {"arm": "MLP, k=100", "loss": 3.03, "token accuracy": 42.47},
    {"arm": "MLP, 16 groups of k=8", "loss": 2.73, "token accuracy": 46.16},
    {"arm": "MLP, 16 groups of k=64", "loss": 2.57, "token accuracy": 48.46},
)
"""WikiText-103: nats a token, and per cent."""

STEERING = (
    {"topic": "video game", "baseline": 2.5, "one code": 55, "all codes": 75},
    {"topic": "football", "baseline": 7.5, "one code": 47.5, "all codes": 95},
    {"topic": "movie", "baseline": 27.5, "one code": 42.5, "all codes": 90},
    {"topic": "song", "baseline": 20, "one code": 32.5, "all codes": 85},
)
"""WikiText-103, 410M: per cent of the texts written that are on the topic."""
