"""Statistics of vowels as men, women and children of Michigan speak them.

Computed from the measurements of J. Hillenbrand, L. A. Getty, M. J. Clark and K. Wheeler, Acoustic
characteristics of American English vowels, J. Acoust. Soc. Am. 97, 3099 (1995): 45 men, 48 women
and 46 children of ten to twelve years, who each said the words below once. Formants that could not
be measured are left out. Labels are those of the measurements, in which ah is the vowel of "hod";
in Peterson and Barney's older set it is that of "hud".
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

VOWELS = ("ae", "ah", "aw", "uw", "er", "iy", "ih")  # the paper's seven, in its order
WORDS = ("had", "hod", "hawed", "who'd", "heard", "heed", "hid")
GROUPS = ("men", "women", "children")
TIMES = ("steady", "20%", "50%", "80%")  # of the vowel's duration
FEATURES = tuple(f"F{k} {time} (Hz)" for time in TIMES for k in (1, 2, 3))

# Hz, in the order of FEATURES.
_MOMENTS = """
men      ae mean  591.4 1930.2 2595.4  591.7 1923.2 2597.3  613.0 1863.1 2565.8  632.1 1720.4 2597.9
men      ae sd     41.9  132.8  137.3   41.8  122.8  135.7   42.6  118.5  148.4   51.7  104.4  130.2
men      ah mean  756.5 1308.9 2534.9  754.1 1303.8 2527.8  756.9 1326.3 2523.3  705.6 1460.6 2537.3
men      ah sd     62.3  111.0  149.0   63.4  121.2  155.7   69.0  116.4  158.9   69.2  112.8  146.2
men      aw mean  656.0 1023.2 2521.2  654.4 1019.9 2516.2  670.5 1046.4 2508.7  658.0 1265.0 2491.8
men      aw sd     33.6   65.5  179.5   35.1   65.0  177.0   46.2   66.2  172.0   52.9  149.9  148.3
men      uw mean  379.7  992.2 2355.3  384.8 1015.0 2346.1  374.7  971.0 2359.0  368.5 1027.8 2337.6
men      uw sd     33.3  113.3  133.5   29.4  116.0  130.7   31.6  102.2  138.6   31.7  105.6  133.9
men      er mean  474.9 1379.1 1710.6  484.7 1371.3 1720.4  460.2 1405.8 1703.9  442.3 1484.0 1752.3
men      er sd     28.9   78.1  108.0   28.1   77.5  103.8   29.1   73.9   88.4   26.7   74.0  103.1
men      iy mean  342.7 2322.8 3000.7  346.4 2311.6 3009.7  340.0 2338.2 2993.7  342.9 2317.4 2946.6
men      iy sd     28.2  136.3  201.1   30.6  132.5  197.1   28.8  135.4  210.0   31.7  120.5  212.3
men      ih mean  429.4 2033.9 2686.9  433.8 2032.3 2683.5  458.8 1940.9 2641.4  466.5 1841.1 2661.7
men      ih sd     31.3  121.9  129.3   30.6  118.9  131.8   33.5  115.8  116.6   32.3  109.3  111.2
women    ae mean  675.7 2334.8 2972.7  676.5 2335.3 2960.0  756.1 2139.9 2902.7  807.5 1924.2 2902.9
women    ae sd     69.3  158.7  200.0   65.6  154.8  199.3   65.0  155.9  204.8   74.1  126.5  210.9
women    ah mean  921.1 1525.8 2831.9  929.8 1521.4 2832.0  918.9 1558.3 2839.7  853.0 1734.9 2864.8
women    ah sd     96.7  125.0  176.6   95.5  132.4  193.6   86.3  128.2  180.5   77.6  129.8  175.5
women    aw mean  804.3 1188.3 2824.4  804.1 1179.6 2824.8  817.5 1260.8 2835.7  811.8 1575.9 2828.2
women    aw sd     74.6  128.9  212.2   83.3  136.5  228.1   68.0  135.1  216.8   69.1  151.7  177.0
women    uw mean  459.7 1105.5 2735.4  465.0 1139.2 2737.1  455.1 1090.3 2747.0  447.0 1116.0 2754.6
women    uw sd     38.7  205.3  139.9   39.8  198.1  139.5   43.2  174.8  138.0   47.0  147.0  144.1
women    er mean  524.0 1588.2 1929.8  536.0 1585.9 1950.0  511.0 1594.6 1933.2  495.3 1690.0 2008.8
women    er sd     45.3  125.9  131.3   47.2  121.5  154.2   43.3  124.1  134.0   43.4  122.5  139.3
women    iy mean  437.2 2761.3 3372.8  446.2 2755.3 3381.2  436.1 2766.9 3368.1  429.2 2759.8 3322.9
women    iy sd     40.6  147.4  237.2   40.3  154.5  242.0   40.3  146.6  249.4   48.1  139.5  257.4
women    ih mean  484.3 2369.1 3057.1  482.2 2377.8 3050.5  520.7 2267.8 3019.6  532.9 2167.0 3040.2
women    ih sd     34.4  149.4  190.1   34.3  149.6  184.4   42.2  135.5  193.2   39.9  136.1  189.9
children ae mean  718.3 2496.9 3288.8  717.4 2491.5 3290.0  786.5 2340.0 3166.6  859.5 2108.7 3097.0
children ae sd     89.7  154.3  240.1   85.9  156.4  239.1  108.6  177.1  223.3   99.0  125.3  193.7
children ah mean  991.9 1688.9 2937.3  995.6 1683.4 2952.8  997.7 1704.8 2929.9  907.6 1886.9 2987.0
children ah sd    129.1  163.3  258.5  122.6  164.7  258.6  118.2  176.7  252.7   81.9  150.7  266.6
children aw mean  836.4 1303.1 2951.0  837.6 1292.8 2942.3  849.5 1356.3 2947.3  836.1 1702.7 2954.5
children aw sd    105.5  160.9  264.2  108.0  148.2  269.6   97.3  158.3  267.2   84.6  191.1  265.7
children uw mean  492.7 1403.9 2992.2  495.2 1432.6 3001.2  487.4 1374.0 2984.0  485.8 1389.3 2982.9
children uw sd     44.8  334.6  209.3   43.5  325.7  197.1   47.3  318.0  213.4   46.8  277.2  200.8
children er mean  586.3 1721.0 2154.3  589.1 1711.8 2179.8  577.1 1734.0 2129.6  542.6 1814.1 2181.6
children er sd     55.5  130.1  190.8   52.2  141.8  188.0   53.2  146.9  190.1   51.9  156.4  188.6
children iy mean  452.2 3081.7 3702.5  450.7 3067.9 3700.2  454.2 3089.0 3678.7  453.4 3060.2 3630.3
children iy sd     44.8  191.3  286.7   49.9  196.9  311.2   38.4  170.3  315.7   41.4  160.3  342.7
children ih mean  513.2 2556.5 3408.6  509.4 2552.8 3391.0  547.9 2476.1 3375.5  561.8 2412.7 3396.2
children ih sd     38.3  160.6  196.3   37.8  163.3  206.5   54.0  151.7  216.1   51.5  143.6  217.3
"""

# Of the logarithms, within vowel and group, over the 919 tokens of the seven vowels that could be
# measured in full; in the order of FEATURES.
_CORRELATION = """
1.000 0.086 0.123 0.902 0.095 0.129 0.798 0.153 0.125 0.567 0.206 0.162
0.086 1.000 0.351 0.113 0.955 0.347 0.111 0.890 0.331 0.154 0.700 0.321
0.123 0.351 1.000 0.131 0.347 0.955 0.144 0.349 0.942 0.178 0.362 0.824
0.902 0.113 0.131 1.000 0.117 0.132 0.761 0.165 0.130 0.523 0.219 0.170
0.095 0.955 0.347 0.117 1.000 0.354 0.104 0.890 0.336 0.139 0.701 0.318
0.129 0.347 0.955 0.132 0.354 1.000 0.146 0.350 0.922 0.177 0.363 0.802
0.798 0.111 0.144 0.761 0.104 0.146 1.000 0.101 0.132 0.749 0.175 0.191
0.153 0.890 0.349 0.165 0.890 0.350 0.101 1.000 0.368 0.119 0.804 0.346
0.125 0.331 0.942 0.130 0.336 0.922 0.132 0.368 1.000 0.146 0.397 0.878
0.567 0.154 0.178 0.523 0.139 0.177 0.749 0.119 0.146 1.000 0.119 0.165
0.206 0.700 0.362 0.219 0.701 0.363 0.175 0.804 0.397 0.119 1.000 0.429
0.162 0.321 0.824 0.170 0.318 0.802 0.191 0.346 0.878 0.165 0.429 1.000
"""

# The part of it that the vowels of one speaker share, F1 to F3: the mean product of two different
# vowels of one speaker, each in units of its standard deviation, averaged over the four times.
_SHARED = """
0.220 0.159 0.180
0.159 0.265 0.243
0.180 0.243 0.312
"""

CORRELATION: Array = np.loadtxt(_CORRELATION.splitlines())
"""Correlation of the logarithms within vowel and group, (12, 12)."""

SHARED: Array = np.tile(np.loadtxt(_SHARED.splitlines()), (len(TIMES), len(TIMES)))
"""The part of `CORRELATION` that all vowels of one speaker have in common, (12, 12)."""


def moments(group: str) -> tuple[Array, Array]:
    """Means and standard deviations of a group's formants, each (7, 12), Hz.

    In the order of `VOWELS` and `FEATURES`.
    """
    table = np.loadtxt(_MOMENTS.splitlines(), usecols=range(3, 15))
    mean, sd = table.reshape(3, 7, 2, 12)[GROUPS.index(group)].swapaxes(0, 1)
    return mean, sd
