import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What bundle.json says of a bundle, and what a model's answer means: labels, masks, names.
 *
 * <p>Java 8 and Android, without dependencies. A quantized output is first made into numbers: (stored - zero point) *
 * scale. Labels, order and masks are those of keras_transfer. Scores of match are sums in another order: they agree to
 * about 1e-6.
 */
public final class Bundle {
  /** Of the outputs, in the order of the last axis. */
  public final List<String> labels;

  /** All of bundle.json: maps, lists, strings, doubles, booleans and nulls. */
  public final Map<String, Object> json;

  private Bundle(Map<String, Object> json) {
    this.json = json;
    List<String> names = new ArrayList<>();
    for (Object name : list(json.get("labels"))) names.add((String) name);
    labels = Collections.unmodifiableList(names);
  }

  /**
   * @param text the content of bundle.json.
   * @throws IllegalArgumentException it is no bundle.json, or of a newer schema.
   */
  public static Bundle read(String text) {
    try {
      Map<String, Object> json = object(parse(text));
      double schema = number(json.get("schema"));
      if (schema > 1) {
        throw new IllegalArgumentException(
            "bundle.json has schema " + (int) schema + "; this file knows 1. Use the one of the bundle.");
      }
      return new Bundle(json);
    } catch (ClassCastException | NullPointerException | IndexOutOfBoundsException error) {
      throw new IllegalArgumentException("bundle.json cannot be read: " + error, error);
    }
  }

  /** How an image becomes pixels. */
  public Preprocess preprocess() {
    if ("numbers".equals(json.get("input"))) {
      throw new IllegalArgumentException("The models of this bundle take numbers, not images.");
    }
    Map<String, Object> contract = object(json.get("preprocessing"));
    if (contract.containsKey("version") && number(contract.get("version")) > 2) {
      throw new IllegalArgumentException(
          "The preprocessing has version " + contract.get("version") + "; this file knows up to 2. Use the bundle's.");
    }
    List<Object> size = list(contract.get("size"));
    Object decode = contract.get("decode");
    return new Preprocess(
        (int) number(size.get(0)),
        (int) number(size.get(1)),
        (String) contract.get("resize"),
        (String) contract.get("interpolation"),
        (Boolean) contract.get("antialias"),
        decode == null ? "full" : (String) decode,
        (String) object(json.get("versions")).get("pillow"));
  }

  /**
   * What a model of the bundle takes: the pixels themselves, or as the numbers that its input asks for ("input_range").
   *
   * @param file a .tflite among its artefacts.
   * @param pixels as Preprocess.apply gives them.
   * @return a direct buffer of bytes or of floats in the processor's order, which Interpreter.run takes.
   */
  public ByteBuffer input(String file, byte[] pixels) {
    for (Object one : list(json.get("artefacts"))) {
      Map<String, Object> artefact = object(one);
      if (!file.equals(artefact.get("file"))) continue;
      Map<String, Object> taken = object(list(artefact.get("inputs")).get(0));
      boolean floats = "float32".equals(taken.get("dtype"));
      ByteBuffer input = ByteBuffer.allocateDirect(pixels.length * (floats ? 4 : 1)).order(ByteOrder.nativeOrder());
      if (!floats) { // whatever its scale is, its bytes are pixels, moved by the zero point
        int zero = (int) number(taken.get("zero_point"));
        for (byte pixel : pixels) input.put((byte) (pixel + zero));
        input.rewind();
        return input;
      }
      Object range = artefact.get("input_range");
      double low = range == null ? 0 : number(list(range).get(0));
      double std = range == null ? 1 : 255 / (number(list(range).get(1)) - low);
      for (byte pixel : pixels) input.putFloat((float) (((pixel & 0xFF) + low * std) / std));
      input.rewind();
      return input;
    }
    throw new IllegalArgumentException("The bundle has no model " + file + ".");
  }

  /** A class, and its probability or value. */
  public static final class Answer {
    public final int index;
    public final String label;
    public final float value;

    Answer(int index, String label, float value) {
      this.index = index;
      this.label = label;
      this.value = value;
    }
  }

  /**
   * The classes of an image, best first; of equal ones the first. The top most probable; where labels are independent
   * of one another (multilabel), all that reach their thresholds, perhaps none; of a regression all values, in order.
   *
   * @throws IllegalArgumentException another number of answers than of labels, or one that is not finite.
   */
  public List<Answer> classify(float[] answer, int top) {
    requireFinite(answer, labels.size());
    List<Answer> rows = new ArrayList<>();
    for (int i = 0; i < answer.length; i++) rows.add(new Answer(i, labels.get(i), answer[i]));
    if (!"probabilities".equals(object(json.get("output")).get("kind"))) return rows;
    Collections.sort(rows, (a, b) -> Float.compare(b.value + 0f, a.value + 0f)); // stable; -0 is 0
    Object thresholds = object(json.get("notes")).get("thresholds");
    if (thresholds == null || object(thresholds).isEmpty()) return rows.subList(0, Math.min(top, rows.size()));
    List<Answer> reached = new ArrayList<>();
    for (Answer row : rows) {
      if (row.value >= (float) number(object(thresholds).get(row.label))) reached.add(row);
    }
    return reached;
  }

  /**
   * Class indices of every pixel of an image, row by row. Probabilities (H, W, C) are interpolated between the model's
   * pixels; what a crop cut off gets the ignore index.
   *
   * @param width of the image, upright; likewise height.
   */
  public int[] mask(float[] answer, int width, int height) {
    Preprocess preprocess = preprocess();
    int classes = labels.size();
    int cells = preprocess.width * classes;
    requireFinite(answer, preprocess.height * cells);
    int ignored = (int) number(object(object(json.get("notes")).get("classes")).get("ignore_index"));
    double[] seen = preprocess.seen(width, height);
    Between rows = new Between(height, seen[0], (int) seen[1], (int) seen[2]);
    Between columns = new Between(width, seen[3], (int) seen[4], (int) seen[5]);
    int[] mask = new int[width * height];
    float[] line = new float[cells];
    for (int y = 0; y < height; y++) {
      float later = rows.share[y];
      float earlier = 1 - later;
      for (int i = 0; i < cells; i++) {
        line[i] = answer[rows.before[y] * cells + i] * earlier + answer[rows.after[y] * cells + i] * later;
      }
      for (int x = 0; x < width; x++) {
        float second = columns.share[x];
        float first = 1 - second;
        float best = Float.NEGATIVE_INFINITY;
        int chosen = 0;
        for (int i = 0; i < classes; i++) {
          float chance = line[columns.before[x] * classes + i] * first + line[columns.after[x] * classes + i] * second;
          if (chance > best) {
            best = chance;
            chosen = i;
          }
        }
        mask[y * width + x] = rows.known[y] && columns.known[x] ? chosen : ignored;
      }
    }
    return mask;
  }

  /** Of a side's pixels: whether each was seen, the model's pixels before and after it, the share of the later. */
  private static final class Between {
    final boolean[] known;
    final int[] before;
    final int[] after;
    final float[] share;

    Between(int side, double seen, int begin, int count) {
      known = new boolean[side];
      before = new int[side];
      after = new int[side];
      share = new float[side];
      for (int i = 0; i < side; i++) {
        double centre = (i + 0.5 - (side - seen) / 2) / seen * count;
        known[i] = centre >= 0 && centre < count;
        double low = Math.min(Math.max(centre - 0.5, 0), count - 1);
        double floor = Math.floor(low);
        before[i] = begin + (int) floor;
        after[i] = begin + Math.min((int) floor + 1, count - 1);
        share[i] = (float) (low - floor);
      }
    }
  }

  /** The comparison of embeddings that the bundle's model was trained with; a gallery may bring another. */
  public Map<String, Object> comparison() {
    return object(object(json.get("notes")).get("comparison"));
  }

  /** How alike two embeddings are, higher for more. */
  public static float alike(Map<String, Object> rule, float[] a, float[] b) {
    if (a.length != b.length) {
      throw new IllegalArgumentException(
          "Embeddings of " + a.length + " and of " + b.length + " numbers cannot be compared.");
    }
    requireFinite(a, a.length);
    requireFinite(b, b.length);
    String kind = String.valueOf(rule.get("kind"));
    double sum = 0;
    double lengthA = 0;
    double lengthB = 0;
    for (int i = 0; i < a.length; i++) {
      double apart = (double) a[i] - b[i];
      if (kind.equals("weighted_l1")) sum += Math.abs(apart) * number(list(rule.get("weights")).get(i));
      else sum += kind.equals("cosine") ? (double) a[i] * b[i] : apart * apart;
      lengthA += (double) a[i] * a[i];
      lengthB += (double) b[i] * b[i];
    }
    switch (kind) {
      case "cosine":
        return (float) (sum / Math.max(Math.sqrt(lengthA), 1e-12) / Math.max(Math.sqrt(lengthB), 1e-12));
      case "euclidean":
        return (float) -Math.sqrt(sum);
      case "weighted_l1":
        double distance = Math.max(-60, Math.min(60, sum - number(rule.get("bias"))));
        return (float) (1 / (1 + Math.exp(distance)));
      default:
        throw new IllegalArgumentException(
            "The comparison " + kind + " is not known to this file. Use the one of the bundle.");
    }
  }

  /** An enrolled image. */
  public static final class Enrolled {
    final String name;
    final float[] embedding;

    public Enrolled(String name, float[] embedding) {
      this.name = name;
      this.embedding = embedding;
    }
  }

  /** A name and the score of its most alike image; index is its first place among those enrolled. */
  public static List<Answer> nearest(Map<String, Object> rule, float[] query, List<Enrolled> enrolled, int top) {
    requireFinite(query, query.length);
    boolean zero = true;
    for (float value : query) zero &= value == 0;
    if (zero) throw new IllegalArgumentException("The model gives no usable embedding.");
    Map<String, Answer> found = new LinkedHashMap<>();
    for (int i = 0; i < enrolled.size(); i++) {
      Enrolled one = enrolled.get(i);
      float score = alike(rule, query, one.embedding);
      Answer before = found.get(one.name);
      if (before == null || before.value < score) {
        found.put(one.name, new Answer(before == null ? i : before.index, one.name, score));
      }
    }
    List<Answer> best = new ArrayList<>(found.values());
    Collections.sort(
        best,
        (a, b) -> a.value != b.value ? Float.compare(b.value, a.value) : a.label.compareTo(b.label));
    return best.subList(0, Math.min(top, best.size()));
  }

  /**
   * Whom or what an embedding shows; null: unknown.
   *
   * @param threshold the least score of a match; null: the rule's.
   */
  public static String match(Map<String, Object> rule, float[] query, List<Enrolled> enrolled, Double threshold) {
    Object least = threshold == null ? rule.get("threshold") : threshold;
    if (least == null || Double.isNaN(number(least)) || Double.isInfinite(number(least))) {
      throw new IllegalArgumentException("No threshold was chosen for this model; give one.");
    }
    List<Answer> best = nearest(rule, query, enrolled, 1);
    if (best.isEmpty()) throw new IllegalArgumentException("Nothing is enrolled.");
    return best.get(0).value >= (float) number(least) ? best.get(0).label : null;
  }

  private static void requireFinite(float[] answer, int count) {
    boolean finite = true;
    for (float value : answer) finite &= !Float.isNaN(value) && !Float.isInfinite(value);
    if (answer.length != count || !finite) {
      throw new IllegalArgumentException(
          answer.length + " numbers were given; " + count + " finite ones are expected.");
    }
  }

  // JSON, as far as a bundle needs it: maps, lists, strings, doubles, booleans and nulls.

  @SuppressWarnings("unchecked")
  static Map<String, Object> object(Object value) {
    return (Map<String, Object>) value;
  }

  @SuppressWarnings("unchecked")
  static List<Object> list(Object value) {
    return (List<Object>) value;
  }

  static double number(Object value) {
    return (Double) value;
  }

  /** A JSON text's value (RFC 8259); IllegalArgumentException where it is none. */
  static Object parse(String text) {
    Parser parser = new Parser(text);
    Object value = parser.value();
    parser.end();
    return value;
  }

  private static final class Parser {
    private final String text;
    private int at;

    Parser(String text) {
      this.text = text;
    }

    Object value() {
      char next = peek();
      if (next == '{') return members();
      if (next == '[') return items();
      if (next == '"') return string();
      if (takes("true")) return true;
      if (takes("false")) return false;
      if (takes("null")) return null;
      int begin = at;
      while (at < text.length() && "+-.0123456789eE".indexOf(text.charAt(at)) >= 0) at++;
      return Double.valueOf(text.substring(begin, at)); // a NumberFormatException is an IllegalArgumentException
    }

    private Map<String, Object> members() {
      Map<String, Object> members = new LinkedHashMap<>();
      at++;
      for (boolean first = true; peek() != '}'; first = false) {
        if (!first) expect(',');
        peek();
        String name = string();
        expect(':');
        members.put(name, value());
      }
      at++;
      return members;
    }

    private List<Object> items() {
      List<Object> items = new ArrayList<>();
      at++;
      for (boolean first = true; peek() != ']'; first = false) {
        if (!first) expect(',');
        items.add(value());
      }
      at++;
      return items;
    }

    private String string() {
      expect('"');
      StringBuilder found = new StringBuilder();
      for (; text.charAt(at) != '"'; at++) {
        char next = text.charAt(at);
        if (next == '\\') {
          next = text.charAt(++at);
          int place = "bfnrt".indexOf(next);
          if (place >= 0) next = "\b\f\n\r\t".charAt(place);
          if (text.charAt(at) == 'u') {
            next = (char) Integer.parseInt(text.substring(at + 1, at + 5), 16);
            at += 4;
          }
        }
        found.append(next);
      }
      at++;
      return found.toString();
    }

    private boolean takes(String word) {
      boolean here = text.startsWith(word, at);
      if (here) at += word.length();
      return here;
    }

    private char peek() {
      while (Character.isWhitespace(text.charAt(at))) at++;
      return text.charAt(at);
    }

    private void expect(char sign) {
      if (peek() != sign) throw new IllegalArgumentException("JSON: " + sign + " is expected at character " + at + ".");
      at++;
    }

    void end() {
      if (!text.substring(at).trim().isEmpty()) {
        throw new IllegalArgumentException("JSON: nothing more is expected at character " + at + ".");
      }
    }
  }
}
