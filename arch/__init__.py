"""Networks: how they are built, run, opened and carried elsewhere. Knows nothing of training.

Shape letters, used in names such as `q_BTNK` and in every signature:

    B batch            T target length    S source length    D model width
    N heads            H key-value heads  K head width       F feed-forward width
    V vocabulary       L layers           C codes            R replicas
"""
