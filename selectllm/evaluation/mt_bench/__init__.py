"""MT-Bench: two-turn questions, and a judge that rates answers or compares two; by the file shapes of FastChat.

Source: Zheng and others, Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena (arXiv 2306.05685).
"""
