import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Enrolled names and embeddings: the gallery.bin that "keras-transfer siamese gallery export" puts into a bundle.
 *
 * <p>Java 8 and Android, without dependencies.
 *
 * <pre>
 * Gallery gallery = Gallery.read(bytes, bundle);
 * String name = Bundle.match(gallery.rule, answer, gallery.enrolled, null); // null: unknown
 * </pre>
 */
public final class Gallery {
  private static final String[] KINDS = {"cosine", "euclidean", "weighted_l1"};
  private static final int VERSION = 1;
  private static final int HEADER = 112;

  /** How embeddings are compared, as Bundle.match takes it. */
  public final Map<String, Object> rule;

  /** Images, those of one name side by side. */
  public final List<Bundle.Enrolled> enrolled;

  private Gallery(Map<String, Object> rule, List<Bundle.Enrolled> enrolled) {
    this.rule = rule;
    this.enrolled = enrolled;
  }

  /**
   * @param content of gallery.bin.
   * @param bundle embeddings of another model are refused.
   * @throws IllegalArgumentException another file, a newer version, one that is cut short, or of another model.
   */
  public static Gallery read(byte[] content, Bundle bundle) {
    require(
        content.length >= HEADER && text(content, 0, 8).equals("KTGALLRY"),
        "This is no gallery.bin; `keras-transfer siamese gallery export GALLERY --to BUNDLE` makes one.");
    ByteBuffer data = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN);
    int version = data.getInt(8);
    require(
        version <= VERSION, "The gallery has version " + version + "; this file knows 1. Use the one of the bundle.");
    int dimension = data.getInt(12);
    int images = data.getInt(16);
    int count = data.getInt(20);
    int kind = data.getInt(24);
    int letters = data.getInt(40);
    boolean weighted = kind == 2;
    long size = HEADER + (weighted ? 4L * dimension : 0) + 4L * count + 4L * images * dimension + letters;
    require(
        kind >= 0 && kind < KINDS.length && content.length == size,
        "The gallery is damaged: it has " + content.length + " bytes, and " + size + " are expected.");
    Object training = bundle.json.get("training");
    require(
        training != null && text(content, 48, 64).equals(Bundle.object(training).get("model")),
        "The gallery holds embeddings of another model than the bundle's. Export the gallery of this model.");
    float threshold = data.getFloat(28);
    Map<String, Object> rule = new LinkedHashMap<>();
    rule.put("kind", KINDS[kind]);
    rule.put("bias", data.getDouble(32));
    rule.put("threshold", Float.isNaN(threshold) ? null : (Object) (double) threshold);
    data.position(HEADER);
    try {
      List<Object> weights = new ArrayList<>();
      for (int i = 0; weighted && i < dimension; i++) weights.add((double) data.getFloat());
      rule.put("weights", weighted ? weights : null);
      int[] counts = new int[count];
      long sum = 0;
      for (int i = 0; i < count; i++) sum += counts[i] = data.getInt();
      require(sum == images, "The gallery is damaged: its counts do not fit.");
      String[] names = text(content, content.length - letters, letters).split("\0");
      List<Bundle.Enrolled> enrolled = new ArrayList<>();
      for (int i = 0; i < count; i++) {
        for (int left = counts[i]; left > 0; left--) {
          float[] embedding = new float[dimension];
          for (int k = 0; k < dimension; k++) embedding[k] = data.getFloat();
          enrolled.add(new Bundle.Enrolled(names[i], embedding));
        }
      }
      return new Gallery(rule, enrolled);
    } catch (BufferUnderflowException | IndexOutOfBoundsException error) {
      throw new IllegalArgumentException("The gallery is damaged: its counts do not fit.", error);
    }
  }

  private static String text(byte[] content, int at, int length) {
    return new String(content, at, length, StandardCharsets.UTF_8);
  }

  private static void require(boolean holds, String message) {
    if (!holds) throw new IllegalArgumentException(message);
  }
}
