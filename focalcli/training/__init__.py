"""Training and prediction: the only folder that imports torch.

Data flow: data -> model -> loss -> loop -> checkpoint -> predict.
"""
