"""Simulations of the paper's section 5, by the name that a command line gives them."""

from pyro_mgvi.datasets import clear_recipe, paper_recipe

RECIPES = {"paper": paper_recipe, "clear": clear_recipe}
