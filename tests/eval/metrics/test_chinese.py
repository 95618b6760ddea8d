"""The table of the Chinese normaliser; readings after the usual rules for numbers."""

import pytest

from eval.metrics.chinese import normalise, read_number
from eval.metrics.wer import char_errors, unit, word_errors


@pytest.mark.parametrize(
    ("digits", "said"),
    [
        ("0", "零"),
        ("7", "七"),
        ("10", "十"),
        ("15", "十五"),
        ("20", "二十"),
        ("105", "一百零五"),
        ("110", "一百一十"),
        ("1001", "一千零一"),
        ("10500", "一万零五百"),
        ("12345", "一万二千三百四十五"),
        ("1000001", "一百万零一"),
        ("100000000", "一亿"),
        ("007", "零零七"),
        ("12345678901234567", "一二三四五六七八九零一二三四五六七"),
    ],
)
def test_numbers_are_read_out(digits, said):
    assert read_number(digits) == said


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("2024年3月5日", "二零二四年三月五日"),
        ("增长了50%！", "增长了百分之五十"),
        ("我有1,200块钱。", "我有一千二百块钱"),
        ("气温是3.5度", "气温 是 三点五 度"),
        ("ＡＩ时代", "ai 时代"),
        ("二〇〇八年", "2008年"),
        ("你好，世界——“再见”", "你好世界再见"),
    ],
)
def test_two_writings_are_one(written, same):
    assert normalise(written) == normalise(same)


def test_an_ideograph_is_a_word_and_latin_words_stay_whole():
    assert normalise("我爱Hello World吗") == "我 爱 hello world 吗"


def test_the_word_error_rate_of_chinese_is_its_character_error_rate():
    assert unit("zh-CN") == "cer" and unit("en") == "wer"
    by_word = word_errors("今天天气不错", "今天天汽错", "zh")
    assert by_word == char_errors("今天天气不错", "今天天汽错", "zh")
    assert (by_word.words, by_word.substitutions, by_word.deletions) == (6, 1, 1)
