"""What the commands do, a module for each: they join the other folders, and neither parse nor print.

unpack (a recipe becomes a training)    scoring (eval)    comparing    calibrating    predicting
measuring (a model's scores)            explaining        tuning       demo
"""
