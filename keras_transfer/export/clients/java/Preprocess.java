import java.util.Arrays;
import java.util.List;

/**
 * From a decoded picture to the pixels the model was trained on: uint8 (height, width, 3), RGB in [0, 255].
 *
 * <p>Java 8 and Android, without dependencies; one object may be used by many threads. The result equals that of
 * keras_transfer bit for bit, which is what Pillow 13.0 computes on x86-64. For a bundle whose "versions" name Pillow
 * 11 or 12 it equals that version's, but for pictures more than 100 times as high as wide. SelfTest shows it with the
 * bundle's golden images.
 *
 * <pre>
 * Preprocess preprocess = Bundle.read(text).preprocess();
 * int[] argb = new int[bitmap.getWidth() * bitmap.getHeight()];
 * bitmap.getPixels(argb, 0, bitmap.getWidth(), 0, 0, bitmap.getWidth(), bitmap.getHeight());
 * byte[] pixels = preprocess.apply(Preprocess.Picture.ofArgb(argb, bitmap.getWidth(), bitmap.getHeight()));
 * </pre>
 *
 * <p>Where the contract's "decode" is "scaled", keras_transfer decodes a JPEG of at least twice the size that is needed
 * at 1/2, 1/4 or 1/8 (libjpeg's own scaling): see jpegScale. Decoded whole, its pixels differ from those by about 0.25
 * of 255 on average, by rounding. Everything else is equal.
 */
public final class Preprocess {
  private static final List<String> RULES = Arrays.asList("squash", "crop", "pad");
  private static final List<String> FILTERS = Arrays.asList("nearest", "bilinear", "bicubic", "area", "lanczos");
  private static final int BITS = 22; // of a weight's fraction
  private static final int HALF = 1 << (BITS - 1);
  private static final int MOST_PIXELS = 178956970;
  private static final int MOST_SIDE = 16384;

  /** Of the result, in pixels. */
  public final int height;

  public final int width;
  private final String resize;
  private final String interpolation;
  private final boolean antialias;
  private final boolean scaled;
  private final boolean tallFirst;

  /**
   * A contract, as "preprocessing" of bundle.json tells it; Bundle reads it from there.
   *
   * @param pillow the version of Pillow whose pixels are made: "pillow" among the bundle's "versions".
   * @throws IllegalArgumentException a value that is not known here.
   */
  public Preprocess(
      int height, int width, String resize, String interpolation, boolean antialias, String decode, String pillow) {
    require(
        height >= 1 && height <= MOST_SIDE && width >= 1 && width <= MOST_SIDE,
        "The size is " + height + " x " + width + "; sides from 1 to " + MOST_SIDE + " are expected.");
    require(RULES.contains(resize), "The resize rule is " + resize + "; expected one of " + RULES + ".");
    require(
        FILTERS.contains(interpolation),
        "The interpolation is " + interpolation + "; expected one of " + FILTERS + ".");
    require(
        antialias || FILTERS.indexOf(interpolation) < 3,
        interpolation + " always antialiases; nearest, bilinear or bicubic is expected where antialias is false.");
    require(
        decode.equals("full") || decode.equals("scaled"), "decode is " + decode + "; expected full or scaled.");
    this.height = height;
    this.width = width;
    this.resize = resize;
    this.interpolation = interpolation;
    this.antialias = antialias;
    this.scaled = decode.equals("scaled");
    this.tallFirst = Integer.parseInt(pillow.split("\\.")[0]) >= 13;
  }

  /**
   * The model's pixels.
   *
   * @return height * width * 3 bytes (unsigned), row by row.
   */
  public byte[] apply(Picture picture) {
    Rows rows = new Rows(picture);
    int[] inner = resize.equals("pad") ? fit(rows.fullHeight, rows.fullWidth) : new int[] {height, width};
    Target target = new Target(inner[0], inner[1], 3 * width, new byte[3 * height * width]);
    target.first = (height - inner[0]) / 2 * target.step + 3 * ((width - inner[1]) / 2);
    double[] box = rows.box(region(rows.fullHeight, rows.fullWidth));
    double[] single = new double[4]; // so are Pillow's boxes
    for (int i = 0; i < 4; i++) single[i] = (float) box[i];
    if (!antialias) {
      sample(rows, box, box[2] - box[0], box[3] - box[1], target);
    } else if (interpolation.equals("nearest")) {
      sample(rows, single, (float) (single[2] - single[0]), (float) (single[3] - single[1]), target);
    } else {
      resample(rows, single, target);
    }
    return target.out;
  }

  /**
   * At which part of its size keras_transfer decodes a JPEG: 1 (all of it), 2, 4 or 8; BitmapFactory's inSampleSize.
   *
   * @param fileWidth of the file's pixels, as stored; likewise fileHeight.
   * @param orientation EXIF's.
   */
  public int jpegScale(int fileWidth, int fileHeight, int orientation) {
    int kind = FILTERS.indexOf(interpolation);
    if (!scaled || !antialias || kind == 0 || kind == 3) return 1;
    boolean turned = orientation >= 5 && orientation <= 8;
    int h = turned ? fileWidth : fileHeight;
    int w = turned ? fileHeight : fileWidth;
    int[] inner = resize.equals("pad") ? fit(h, w) : new int[] {height, width};
    for (int scale = 8; scale > 1; scale /= 2) {
      if (h >= 2L * scale * inner[0] && w >= 2L * scale * inner[1]) return scale;
    }
    return 1;
  }

  /**
   * What the model sees of an upright picture: so many of its rows, on these of the model's: the first and how many;
   * then the same of the columns.
   */
  double[] seen(int pictureWidth, int pictureHeight) {
    boolean crops = resize.equals("crop");
    double rows = crops ? Math.min(pictureHeight, (double) ((long) pictureWidth * height) / width) : pictureHeight;
    double columns = crops ? Math.min(pictureWidth, (double) ((long) pictureHeight * width) / height) : pictureWidth;
    int[] inner = resize.equals("pad") ? fit(pictureHeight, pictureWidth) : new int[] {height, width};
    return new double[] {rows, (height - inner[0]) / 2, inner[0], columns, (width - inner[1]) / 2, inner[1]};
  }

  /** A decoded picture as it is stored: its pixels, which are neither copied nor changed, and how to look at it. */
  public static final class Picture {
    private final byte[] bytes;
    private final short[] deep;
    private final int[] argb;
    private final int width;
    private final int height;
    private int orientation = 1;
    private int scale = 1;
    private int fullWidth;
    private int fullHeight;

    private Picture(byte[] bytes, short[] deep, int[] argb, int width, int height) {
      require(
          width >= 1 && height >= 1,
          "The picture is " + width + " x " + height + " pixels; at least 1 x 1 is expected.");
      long pixels = (long) width * height;
      require(pixels <= MOST_PIXELS, "The picture has " + pixels + " pixels; at most " + MOST_PIXELS + " are allowed.");
      long length = bytes != null ? bytes.length : deep != null ? deep.length : argb.length;
      boolean fits = length == pixels || bytes != null && (length == 3 * pixels || length == 4 * pixels);
      require(
          fits,
          "The picture of " + width + " x " + height + " pixels has " + length + " values; "
              + (bytes == null ? "1 a pixel is expected." : "1, 3 or 4 a pixel are expected."));
      this.bytes = bytes;
      this.deep = deep;
      this.argb = argb;
      this.width = this.fullWidth = width;
      this.height = this.fullHeight = height;
    }

    /** Grey, RGB or RGBA bytes, row by row without gaps; transparent pixels come to lie on white. */
    public static Picture of(byte[] data, int width, int height) {
      return new Picture(data, null, null, width, height);
    }

    /** 16-bit grey, unsigned. */
    public static Picture ofGrey16(short[] data, int width, int height) {
      return new Picture(null, data, null, width, height);
    }

    /** 0xAARRGGBB, not premultiplied, as Bitmap.getPixels and BufferedImage.getRGB give. */
    public static Picture ofArgb(int[] data, int width, int height) {
      return new Picture(null, null, data, width, height);
    }

    /** With EXIF's orientation, 1 to 8; anything else is taken as 1, upright. */
    public Picture oriented(int exif) {
      orientation = exif;
      return this;
    }

    /** For a JPEG that was decoded at 1/denominator of its size: the file's own size, as stored. */
    public Picture decodedAt(int denominator, int fileWidth, int fileHeight) {
      require(
          denominator == 1 || denominator == 2 || denominator == 4 || denominator == 8,
          "The scale is " + denominator + "; expected 1, 2, 4 or 8.");
      require(
          (fileWidth - 1) / denominator + 1 == width && (fileHeight - 1) / denominator + 1 == height,
          fileWidth + " x " + fileHeight + " pixels at 1/" + denominator + " are not " + width + " x " + height + ".");
      scale = denominator;
      fullWidth = fileWidth;
      fullHeight = fileHeight;
      return this;
    }
  }

  private static void require(boolean holds, String message) {
    if (!holds) throw new IllegalArgumentException(message);
  }

  /** The size (height, width) a picture gets when it just fits in; rounded half up. */
  private int[] fit(long h, long w) {
    if (height * w >= width * h) return new int[] {(int) Math.max(1, (2 * h * width + w) / (2 * w)), width};
    return new int[] {height, (int) Math.max(1, (2 * w * height + h) / (2 * h))};
  }

  /** Left, top, right, bottom of what is seen of a picture. */
  private double[] region(long h, long w) {
    if (!resize.equals("crop")) return new double[] {0, 0, w, h};
    if (height * w >= width * h) {
      double inner = (double) (width * h) / height;
      double left = (w - inner) / 2;
      return new double[] {left, 0, Math.min(left + inner, w), h};
    }
    double inner = (double) (height * w) / width;
    double top = (h - inner) / 2;
    return new double[] {0, top, w, Math.min(top + inner, h)};
  }

  /** Where the pixels go. */
  private static final class Target {
    final int height;
    final int width;
    final int step;
    final byte[] out;
    int first;

    Target(int height, int width, int step, byte[] out) {
      this.height = height;
      this.width = width;
      this.step = step;
      this.out = out;
    }
  }

  /** Two passes of weighted sums, each rounded to bytes. */
  private void resample(Rows rows, double[] box, Target target) {
    Axis across = new Axis(interpolation, rows.width, box[0], (float) (box[2] - box[0]), target.width);
    Axis down = new Axis(interpolation, rows.height, box[1], (float) (box[3] - box[1]), target.height);
    int begin = 3 * across.firstUsed;
    int end = 3 * across.endUsed;
    int shrinks = rows.height - target.height;
    if (tallFirst && shrinks > 0 && shrinks > 2 * (rows.width - target.width)) {
      byte[] line = new byte[3 * rows.width];
      int[] sums = new int[3 * rows.width];
      for (int y = 0; y < target.height; y++) {
        Arrays.fill(sums, begin, end, HALF);
        for (int tap = 0; tap < down.taps[y]; tap++) {
          byte[] row = rows.read(down.start[y] + tap, across.firstUsed, across.endUsed);
          add(sums, begin, end, row, rows.offset, down.weights[y * down.most + tap]);
        }
        for (int i = begin; i < end; i++) line[i] = clipped(sums[i]);
        squeeze(line, 0, across, target.out, target.first + y * target.step);
      }
      return;
    }
    int length = 3 * target.width;
    byte[] between = new byte[(down.endUsed - down.firstUsed) * length];
    for (int y = down.firstUsed; y < down.endUsed; y++) {
      byte[] row = rows.read(y, across.firstUsed, across.endUsed);
      squeeze(row, rows.offset, across, between, (y - down.firstUsed) * length);
    }
    int[] sums = new int[length];
    for (int y = 0; y < target.height; y++) {
      Arrays.fill(sums, HALF);
      for (int tap = 0; tap < down.taps[y]; tap++) {
        int place = (down.start[y] + tap - down.firstUsed) * length;
        add(sums, 0, length, between, place, down.weights[y * down.most + tap]);
      }
      int place = target.first + y * target.step;
      for (int i = 0; i < length; i++) target.out[place + i] = clipped(sums[i]);
    }
  }

  private static byte clipped(int sum) {
    int level = sum >> BITS;
    return (byte) (level < 0 ? 0 : level > 255 ? 255 : level);
  }

  private static void add(int[] sums, int begin, int end, byte[] row, int at, int share) {
    for (int i = begin; i < end; i++) sums[i] += (row[at + i] & 0xFF) * share;
  }

  /** One row's horizontal pass. */
  private static void squeeze(byte[] row, int at, Axis across, byte[] out, int place) {
    int to = place;
    for (int x = 0; x < across.start.length; x++, to += 3) {
      int red = HALF;
      int green = HALF;
      int blue = HALF;
      int from = at + 3 * across.start[x];
      int last = x * across.most + across.taps[x];
      for (int tap = x * across.most; tap < last; tap++, from += 3) {
        int share = across.weights[tap];
        red += (row[from] & 0xFF) * share;
        green += (row[from + 1] & 0xFF) * share;
        blue += (row[from + 2] & 0xFF) * share;
      }
      out[to] = clipped(red);
      out[to + 1] = clipped(green);
      out[to + 2] = clipped(blue);
    }
  }

  /** Of each target pixel along one axis: the first source pixel it sees, how many, and their weights, of 2^-22. */
  private static final class Axis {
    final int[] start;
    final int[] taps;
    final int[] weights;
    final int most;
    int firstUsed;
    int endUsed;

    Axis(String filter, int side, double begin, double extent, int count) {
      double scale = extent / count;
      double widened = Math.max(scale, 1);
      double support = reach(filter) * widened;
      double inverse = 1 / widened;
      most = (int) Math.ceil(support) * 2 + 1;
      start = new int[count];
      taps = new int[count];
      weights = new int[count * most];
      double[] exact = new double[most];
      firstUsed = side;
      for (int i = 0; i < count; i++) {
        double centre = begin + (i + 0.5) * scale;
        int from = Math.max(0, (int) (centre - support + 0.5));
        int seen = Math.min(side, (int) (centre + support + 0.5)) - from;
        double total = 0;
        for (int tap = 0; tap < seen; tap++) {
          exact[tap] = value(filter, (tap + from - centre + 0.5) * inverse);
          total += exact[tap];
        }
        int kept = 0;
        int empty = 0;
        for (int tap = 0; tap < seen; tap++) {
          double share = total == 0 ? exact[tap] : exact[tap] / total;
          int rounded = (int) ((share < 0 ? -0.5 : 0.5) + share * (1 << BITS));
          if (rounded == 0 && kept == 0) empty++;
          else weights[i * most + kept++] = rounded;
        }
        while (kept > 0 && weights[i * most + kept - 1] == 0) kept--;
        start[i] = from + empty;
        taps[i] = kept;
        if (kept > 0) {
          firstUsed = Math.min(firstUsed, start[i]);
          endUsed = Math.max(endUsed, start[i] + kept);
        }
      }
      firstUsed = Math.min(firstUsed, endUsed);
    }

    private static double reach(String filter) {
      return filter.equals("area") ? 0.5 : filter.equals("bicubic") ? 2 : filter.equals("lanczos") ? 3 : 1;
    }

    /** A filter's value at a distance from the centre, in pixels of the coarser grid. */
    private static double value(String filter, double x) {
      double distance = Math.abs(x);
      switch (filter) {
        case "area":
          return x > -0.5 && x <= 0.5 ? 1 : 0;
        case "bicubic": // Keys's cubic, a = -1/2
          if (distance < 1) return (1.5 * distance - 2.5) * distance * distance + 1;
          return distance < 2 ? (((distance - 5) * distance + 8) * distance - 4) * -0.5 : 0;
        case "lanczos":
          return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
        default:
          return distance < 1 ? 1 - distance : 0;
      }
    }

    private static double sinc(double x) {
      return x == 0 ? 1 : StrictMath.sin(x * Math.PI) / (x * Math.PI);
    }
  }

  /** One value of the source, or a mixture of its neighbours, at the centre of each pixel. */
  private void sample(Rows rows, double[] box, double wide, double high, Target target) {
    int taps = interpolation.equals("nearest") ? 1 : interpolation.equals("bilinear") ? 2 : 4;
    Centres columns = new Centres(box[0], wide / target.width, target.width, rows.width, taps);
    Centres lines = new Centres(box[1], high / target.height, target.height, rows.height, taps);
    byte[][] seen = new byte[taps][3 * rows.width];
    double[] near = new double[taps];
    double[] values = new double[taps];
    for (int y = 0; y < target.height; y++) {
      for (int row = 0; row < taps; row++) {
        byte[] source = rows.read(lines.place[y * taps + row], 0, rows.width);
        System.arraycopy(source, rows.offset, seen[row], 0, 3 * rows.width);
      }
      for (int x = 0; x < target.width; x++) {
        for (int channel = 0; channel < 3; channel++) {
          for (int row = 0; row < taps; row++) {
            for (int i = 0; i < taps; i++) near[i] = seen[row][3 * columns.place[x * taps + i] + channel] & 0xFF;
            values[row] = mix(near, columns.share[x]);
          }
          double value = mix(values, lines.share[y]);
          target.out[target.first + y * target.step + 3 * x + channel] = (byte) (int) Math.max(0, Math.min(255, value));
        }
      }
    }
  }

  /** Where each target pixel's centre lies: the taps around it, kept inside, and the share of the later ones. */
  private static final class Centres {
    final int[] place;
    final double[] share;

    Centres(double begin, double step, int count, int side, int taps) {
      place = new int[count * taps];
      share = new double[count];
      double sum = begin + step * 0.5; // nearest adds up the steps, the others multiply
      for (int i = 0; i < count; i++) {
        double centre = taps == 1 ? sum : step * (i + 0.5) + begin - 0.5;
        sum += step;
        double before = Math.floor(centre);
        share[i] = centre - before;
        for (int tap = 0; tap < taps; tap++) {
          int shifted = (int) before + tap - (taps == 4 ? 1 : 0);
          place[i * taps + tap] = Math.max(0, Math.min(side - 1, shifted));
        }
      }
    }
  }

  /** One, two (linear) or four values (cubic), t after the middle one. */
  private static double mix(double[] v, double t) {
    if (v.length == 1) return v[0];
    if (v.length == 2) return v[0] + (v[1] - v[0]) * t;
    return v[1] + t * (-v[0] + v[2] + t * (2 * (v[0] - v[1]) + v[2] - v[3] + t * (-v[0] + v[1] - v[2] + v[3])));
  }

  /** The rows of a picture, upright and RGB, whatever it is stored as. */
  private static final class Rows {
    final int height;
    final int width;
    final int fullHeight;
    final int fullWidth;
    /** Of column 0 in what read() gave. */
    int offset;

    private final Picture picture;
    private final int channels;
    private final byte[] line;
    private int origin;
    private int right = 1;
    private int down;

    Rows(Picture picture) {
      this.picture = picture;
      int w = picture.width;
      int last = w * picture.height - 1;
      boolean turned = picture.orientation >= 5 && picture.orientation <= 8;
      height = turned ? w : picture.height;
      width = turned ? picture.height : w;
      fullHeight = turned ? picture.fullWidth : picture.fullHeight;
      fullWidth = turned ? picture.fullHeight : picture.fullWidth;
      channels = picture.bytes == null ? 1 : picture.bytes.length / (last + 1);
      line = new byte[3 * width];
      down = w;
      switch (picture.orientation) {
        case 2: steps(w - 1, -1, w); break;
        case 3: steps(last, -1, -w); break;
        case 4: steps(last - w + 1, 1, -w); break;
        case 5: steps(0, w, 1); break;
        case 6: steps(last - w + 1, -w, 1); break;
        case 7: steps(last, -w, -1); break;
        case 8: steps(w - 1, w, -1); break;
        default: break;
      }
    }

    /** Where the upright top left pixel is stored, and how far the next ones to the right and below are from it. */
    private void steps(int origin, int right, int down) {
      this.origin = origin;
      this.right = right;
      this.down = down;
    }

    /** A region of the file's upright pixels in those stored: a scaled picture is filled up at the file's far edges. */
    double[] box(double[] region) {
      double scale = picture.scale;
      int turn = picture.orientation;
      double across = turn == 2 || turn == 3 || turn == 6 || turn == 7 ? width - fullWidth / scale : 0;
      double below = turn == 3 || turn == 4 || turn == 7 || turn == 8 ? height - fullHeight / scale : 0;
      return new double[] {
        across + region[0] / scale, below + region[1] / scale, across + region[2] / scale, below + region[3] / scale
      };
    }

    /** A row's RGB bytes, from offset on; columns outside [first, end) are not filled in. */
    byte[] read(int y, int first, int end) {
      int begin = origin + y * down;
      offset = 0;
      int from = begin + first * right;
      if (picture.argb != null) {
        int[] data = picture.argb;
        for (int to = 3 * first; to < 3 * end; to += 3, from += right) {
          int pixel = data[from];
          int alpha = pixel >>> 24;
          line[to] = onWhite(pixel >> 16 & 0xFF, alpha);
          line[to + 1] = onWhite(pixel >> 8 & 0xFF, alpha);
          line[to + 2] = onWhite(pixel & 0xFF, alpha);
        }
        return line;
      }
      if (picture.deep != null) {
        short[] data = picture.deep;
        for (int to = 3 * first; to < 3 * end; to += 3, from += right) {
          line[to] = line[to + 1] = line[to + 2] = (byte) (((data[from] & 0xFFFF) + 128) / 257);
        }
        return line;
      }
      byte[] data = picture.bytes;
      if (channels == 1) {
        for (int to = 3 * first; to < 3 * end; to += 3, from += right) {
          line[to] = line[to + 1] = line[to + 2] = data[from];
        }
        return line;
      }
      if (channels == 3 && right == 1) {
        offset = 3 * begin;
        return data;
      }
      for (int to = 3 * first; to < 3 * end; to += 3, from += right) {
        int alpha = channels == 4 ? data[4 * from + 3] & 0xFF : 255;
        for (int i = 0; i < 3; i++) line[to + i] = onWhite(data[channels * from + i] & 0xFF, alpha);
      }
      return line;
    }

    /** A level under so much alpha, on white; rounded to the nearest level. */
    private static byte onWhite(int level, int alpha) {
      return (byte) (alpha == 255 ? level : (2 * (level * alpha + 255 * (255 - alpha)) + 255) / 510);
    }
  }
}
